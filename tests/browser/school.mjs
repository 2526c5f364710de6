// A school: pages sit behind a firewall with symmetric NAT, the server outside of it. Network namespaces, so it is a real one.

import { execFileSync, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readlinkSync } from 'node:fs';
import { pass, until } from './rig.mjs';

/** The server's name, in `hosts`, and where it is: the first of the addresses. */
export const NAME = 'outside.test';
const OUTSIDE = ['10.79.0.2', '10.79.0.3'];
const ROUTER = '10.79.0.1';
const STUN_COOKIE = 0x2112a442;

const own = readlinkSync('/proc/self/ns/net');

/** A namespace that lives as long as this process keeps it. */
async function openNamespace() {
  const holder = spawn('unshare', ['--net', 'cat'], { stdio: ['pipe', 'ignore', 'inherit'] });
  await until(() => readlinkSync(`/proc/${holder.pid}/ns/net`) !== own, 10_000, 'a network namespace of its own');
  const enter = ['nsenter', `--net=/proc/${holder.pid}/ns/net`];
  return {
    pid: String(holder.pid),
    /** Words before a command that is to run inside. */
    enter,
    run: (line) => execFileSync(enter[0], [...enter.slice(1), 'sh', '-ec', line]).toString(),
    close: () => holder.stdin.end(),
  };
}

/** Whether namespaces and filters may be made here; if not, why. */
export function whyNoSchool() {
  try {
    execFileSync('unshare', ['--net', 'sh', '-ec', 'echo 1 >/proc/sys/net/ipv4/ip_forward; iptables -t nat -A POSTROUTING -j MASQUERADE --random-fully'],
      { stdio: ['ignore', 'ignore', 'pipe'] });
    return null;
  } catch (error) {
    return `no namespaces or filters here: ${error.stderr}`;
  }
}

/**
 * Moves this namespace's way out behind the school's firewall until `close()`. The firewall lets everything pass outwards,
 * unless `letOut` names what, and gives each flow a port of its own at random.
 */
export async function openSchool() {
  const [firewall, outside] = [await openNamespace(), await openNamespace()];
  const here = (line) => execFileSync('sh', ['-ec', line]).toString();
  let networks = 0;
  /** Takes the interface that the pages' machine has away. */
  const unplug = () => here(`ip link del school${networks} 2>/dev/null || true`);
  /** Gives it another, with another address and another gateway. */
  function plug() {
    const number = ++networks;
    here(`
      ip link add school${number} type veth peer name inner${number} netns ${firewall.pid}
      ip addr add 10.78.${number}.1/24 dev school${number}
      ip link set school${number} up`);
    firewall.run(`
      ip addr add 10.78.${number}.2/24 dev inner${number}
      ip link set inner${number} up`);
    here(`ip route replace default via 10.78.${number}.2 dev school${number}`);
  }
  here('ip link set veth0 down');
  plug();
  firewall.run(`
    ip link set lo up
    ip link add outer type veth peer name veth0 netns ${outside.pid}
    ip addr add ${ROUTER}/24 dev outer
    ip link set outer up
    echo 1 >/proc/sys/net/ipv4/ip_forward
    iptables -t nat -A POSTROUTING -o outer -j MASQUERADE --random-fully`);
  outside.run(`
    ip link set lo up
    ip addr add ${OUTSIDE[0]}/24 dev veth0
    ip addr add ${OUTSIDE[1]}/24 dev veth0
    ip link set veth0 up`);
  return {
    /** For `openRig`. */
    place: { host: OUTSIDE[0], url: `https://${NAME}`, enter: outside.enter },
    settings: { LYCEUM__MEDIA__ADDRESSES: OUTSIDE[0], LYCEUM__TLS__LISTEN: '0.0.0.0:443', NEXTAUTH_URL: `https://${NAME}` },
    /** Only what `matches` (arguments of iptables) describe gets out until `t` ends; all else is dropped without a word. */
    letOut(t, ...matches) {
      t.after(() => firewall.run('iptables -F FORWARD'));
      for (const match of matches) firewall.run(`iptables -A FORWARD -o outer ${match} -j ACCEPT`);
      firewall.run('iptables -A FORWARD -o outer -j DROP');
    },
    unplug,
    plug,
    /** The ports that one socket in here has at the server's two addresses. */
    async portsOutside() {
      const socket = createSocket('udp4');
      const ports = [];
      for (const address of OUTSIDE) {
        const request = Buffer.alloc(20); // a Binding request of STUN; its transaction is all zeros
        request.writeUInt16BE(1, 0);
        request.writeUInt32BE(STUN_COOKIE, 4);
        await until(async () => {
          socket.send(request, 3478, address);
          const answer = await Promise.race([once(socket, 'message').then(([bytes]) => bytes), pass(1_000)]);
          const at = answer?.indexOf(Buffer.from([0x00, 0x20, 0x00, 0x08])); // XOR-MAPPED-ADDRESS, IPv4
          return at > 0 && ports.push(answer.readUInt16BE(at + 6) ^ (STUN_COOKIE >>> 16));
        }, 10_000, `STUN from ${address}`);
      }
      socket.close();
      return ports;
    },
    close() {
      outside.close();
      firewall.close(); // the pairs end with their namespaces
      unplug();
      here(`
        ip link set veth0 up
        ip route replace default via 10.77.0.2 dev veth0`);
    },
  };
}
