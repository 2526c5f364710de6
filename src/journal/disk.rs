//! What the journal asks of a disk: little enough to have a double that fails or forgets at any step.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// A folder of files.
pub(crate) trait Disk: Send + Sync {
    /// The names of the files in it.
    fn names(&self) -> io::Result<Vec<String>>;
    /// At most `bytes_max` of a file from `offset` on; fewer only at its end.
    fn read(&self, name: &str, offset: u64, bytes_max: usize) -> io::Result<Vec<u8>>;
    /// Bytes of a file.
    fn len(&self, name: &str) -> io::Result<u64>;
    /// Returns when what a file holds outlives a power cut, whoever wrote it.
    fn sync(&self, name: &str) -> io::Result<()>;
    /// A new file, empty, in the place of one of that name.
    fn create(&self, name: &str) -> io::Result<Box<dyn Tail>>;
    /// Gives a file another name, in the place of one that had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Takes a file away.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Returns when what files there are, and under which names, outlives a power cut.
    fn sync_names(&self) -> io::Result<()>;
}

/// The end of a file that is written.
pub(crate) trait Tail: Send {
    /// Writes behind what is there. After an error some of it may be there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Returns when all of it outlives a power cut.
    fn sync(&mut self) -> io::Result<()>;
}

/// A folder of the file system.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    fn path(&self, name: &str) -> PathBuf {
        Path::new(&self.0).join(name)
    }
}

impl Disk for Folder {
    fn names(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()));
        names.collect()
    }

    fn read(&self, name: &str, offset: u64, bytes_max: usize) -> io::Result<Vec<u8>> {
        let mut file = File::open(self.path(name))?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(bytes_max as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.path(name))?.len())
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        File::open(self.path(name))?.sync_data()
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Tail>> {
        Ok(Box::new(File::create(self.path(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

impl Tail for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}
