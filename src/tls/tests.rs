use std::fs;
use std::ops::Range;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use super::*;

/// A certificate for `localhost`, whose issuer clients can be told to trust.
pub(crate) struct Issued {
    pub(crate) chain_pem: String,
    pub(crate) key_pem: String,
    pub(crate) root: CertificateDer<'static>,
}

/// Valid in these years.
pub(crate) fn issue(years: Range<i32>) -> Issued {
    let root_key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = params.self_signed(&root_key).expect("a certificate");
    let issuer = Issuer::new(params, root_key);
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    params.not_before = date_time_ymd(years.start, 1, 1);
    params.not_after = date_time_ymd(years.end, 1, 1);
    let leaf = params.signed_by(&key, &issuer).expect("a certificate");
    Issued { chain_pem: leaf.pem() + &root.pem(), key_pem: key.serialize_pem(), root: root.der().clone() }
}

/// A client that trusts the issuer.
pub(crate) fn client(root: &CertificateDer<'static>, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).expect("a root");
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider())).with_protocol_versions(versions);
    builder.expect("versions that the provider knows").with_root_certificates(roots).with_no_client_auth()
}

/// A folder of its own for a test's two files.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lyceum-tls-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a writable place");
        Folder(path)
    }

    fn certificate(&self) -> PathBuf {
        self.0.join("fullchain.pem")
    }

    fn key(&self) -> PathBuf {
        self.0.join("privkey.pem")
    }

    fn put(&self, chain: &str, key: &str) {
        fs::write(self.certificate(), chain).expect("it can be written");
        fs::write(self.key(), key).expect("it can be written");
    }

    fn load(&self) -> Result<Certificates, String> {
        Certificates::load(&self.certificate(), &self.key()).map_err(|failure| failure.to_string())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let folder = Folder::new("wrong");
    let (good, other) = (issue(2020..2090), issue(2020..2090));
    let (past, future) = (issue(2001..2002), issue(2090..2091));
    let cut = &good.chain_pem[..good.chain_pem.len() / 4];
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let no_base64 = "-----BEGIN PRIVATE KEY-----\n!!!!\n-----END PRIVATE KEY-----\n";
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let unusable = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for (chain, key, says) in [
        ("", &*good.key_pem, "fullchain.pem has no certificate in it; expected PEM"),
        (&*good.key_pem, &*good.key_pem, "fullchain.pem has no certificate in it; expected PEM"),
        (cut, &*good.key_pem, "fullchain.pem is cut off: an -----END line is missing"),
        (nonsense, &*good.key_pem, "fullchain.pem ([tls] certificate) cannot be understood"),
        (&*good.chain_pem, "", "privkey.pem has no private key in it; expected PEM"),
        (&*good.chain_pem, &*good.chain_pem, "privkey.pem has no private key in it; expected PEM"),
        (&*good.chain_pem, no_base64, "privkey.pem is broken PEM"),
        (&*good.chain_pem, encrypted, "privkey.pem is encrypted; write it without a passphrase: openssl pkey -in "),
        (&*good.chain_pem, unusable, "privkey.pem cannot be used: "),
        (&*good.chain_pem, &*other.key_pem, "privkey.pem does not belong to the first certificate in "),
        (&*past.chain_pem, &*past.key_pem, "fullchain.pem has expired on 2002-01-01; renew it"),
        (
            &*future.chain_pem,
            &*future.key_pem,
            "begins to be valid on 2090-01-01 only; is the clock of this machine right?",
        ),
        (&*"x".repeat(300_000), &*good.key_pem, "which cannot be read: it has more than 262144 bytes"),
    ] {
        folder.put(chain, key);
        let said = folder.load().err().unwrap_or_else(|| panic!("not: {says}"));
        assert!(said.contains(says) && said.contains("[tls] ") && said.lines().count() == 1, "{said} and not {says}");
    }
    folder.put(&good.chain_pem, &good.key_pem);
    assert_eq!(folder.load().expect("both are good").last_day(), "2090-01-01");
    fs::remove_file(folder.key()).expect("it was there");
    let said = folder.load().err().expect("it is gone");
    assert_eq!(said, format!("[tls] key names {}, and there is no such file", folder.key().display()));
}

#[test]
fn changed_files_are_taken_and_bad_ones_are_not() {
    let folder = Folder::new("changed");
    let (first, second, third) = (issue(2020..2090), issue(2020..2091), issue(2020..2092));
    folder.put(&first.chain_pem, &first.key_pem);
    let certificates = folder.load().expect("both are good");
    assert_eq!(certificates.look(), Ok(false));
    assert_eq!(certificates.last_day(), "2090-01-01");

    // Certificate and key are not written at once.
    fs::write(folder.certificate(), &second.chain_pem).expect("it can be written");
    assert!(certificates.look().is_err_and(|said| said.contains("does not belong")));
    assert_eq!(certificates.last_day(), "2090-01-01");
    fs::write(folder.key(), &second.key_pem).expect("it can be written");
    assert_eq!((certificates.look(), certificates.look()), (Ok(true), Ok(false)));
    assert_eq!(certificates.last_day(), "2091-01-01");

    // As Kubernetes mounts secrets: the files are links through a link, which is swapped. The new files are the older ones.
    for (name, issued) in [("newer", &third), ("older", &first)] {
        let data = folder.0.join(name);
        fs::create_dir(&data).expect("a writable place");
        fs::write(data.join("fullchain.pem"), &issued.chain_pem).expect("it can be written");
        fs::write(data.join("privkey.pem"), &issued.key_pem).expect("it can be written");
    }
    let swap = |to: &str| {
        std::os::unix::fs::symlink(to, folder.0.join("..data_tmp")).expect("a link");
        fs::rename(folder.0.join("..data_tmp"), folder.0.join("..data")).expect("it is renamed");
    };
    swap("older");
    for file in ["fullchain.pem", "privkey.pem"] {
        fs::remove_file(folder.0.join(file)).expect("it was there");
        std::os::unix::fs::symlink(format!("..data/{file}"), folder.0.join(file)).expect("a link");
    }
    assert_eq!((certificates.look(), certificates.last_day()), (Ok(true), "2090-01-01".to_owned()));
    swap("newer");
    assert_eq!((certificates.look(), certificates.last_day()), (Ok(true), "2092-01-01".to_owned()));
    fs::remove_file(folder.0.join("..data")).expect("it was there");
    assert!(certificates.look().is_err_and(|said| said.ends_with("and there is no such file")));
    assert_eq!(certificates.last_day(), "2092-01-01");
}

#[tokio::test]
async fn trouble_is_said_once_and_not_of_a_file_that_is_being_written() {
    let folder = Folder::new("trouble");
    let issued = issue(2020..2090);
    folder.put(&issued.chain_pem, &issued.key_pem);
    let mut watch = Watch::new(folder.load().expect("both are good")).expect("signals");
    let failures = |watch: &Watch| watch.certificates.counts().reload_failures.load(Ordering::Relaxed);
    let wrong = |what: &str| Err(what.to_owned());
    let mut said = Vec::new();
    for (found, told) in [
        (wrong("a"), false),
        (Ok(false), false),
        (wrong("a"), false),
        (wrong("a"), false),
        (wrong("a"), false),
        (wrong("b"), false),
        (wrong("b"), false),
        (wrong("b"), true),
        (Ok(true), false),
        (wrong("b"), true),
    ] {
        let before = failures(&watch);
        watch.report(found, told);
        said.push(failures(&watch) - before);
    }
    assert_eq!(said, [0, 0, 0, 1, 0, 0, 1, 1, 0, 1]);
    assert_eq!(watch.certificates.counts().reloads.load(Ordering::Relaxed), 1);
}
