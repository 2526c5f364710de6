// A school: pages sit behind a firewall with symmetric NAT, the server outside of it. Network namespaces, so it is a real one.

import { execFileSync, spawn } from 'node:child_process';
import { readlinkSync } from 'node:fs';
import { until } from './rig.mjs';

/** Where the server is. */
export const OUTSIDE = '10.79.0.2';
const [PAGES, GATEWAY, ROUTER] = ['10.78.0.1', '10.78.0.2', '10.79.0.1'];

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
 * but for what `refuse` names, and gives each flow a port of its own at random.
 */
export async function openSchool() {
  const [firewall, outside] = [await openNamespace(), await openNamespace()];
  const here = (line) => execFileSync('sh', ['-ec', line]).toString();
  here(`
    ip link add school0 type veth peer name inner netns ${firewall.pid}
    ip addr add ${PAGES}/24 dev school0
    ip link set school0 up
    ip link set veth0 down
    ip route replace default via ${GATEWAY} dev school0`);
  firewall.run(`
    ip link set lo up
    ip addr add ${GATEWAY}/24 dev inner
    ip link set inner up
    ip link add outer type veth peer name veth0 netns ${outside.pid}
    ip addr add ${ROUTER}/24 dev outer
    ip link set outer up
    echo 1 >/proc/sys/net/ipv4/ip_forward
    iptables -t nat -A POSTROUTING -o outer -j MASQUERADE --random-fully`);
  outside.run(`
    ip link set lo up
    ip addr add ${OUTSIDE}/24 dev veth0
    ip link set veth0 up`);
  return {
    outside: { host: OUTSIDE, enter: outside.enter },
    /** Drops, without a word, what each of `matches` (arguments of iptables) describes, and says so no more when `t` ends. */
    refuse(t, ...matches) {
      t.after(() => firewall.run('iptables -F FORWARD'));
      for (const match of matches) firewall.run(`iptables -A FORWARD ${match} -j DROP`);
    },
    close() {
      outside.close();
      firewall.close(); // the pairs end with their namespaces
      here(`
        ip link del school0 2>/dev/null || true
        ip link set veth0 up
        ip route replace default via 10.77.0.2 dev veth0`);
    },
  };
}
