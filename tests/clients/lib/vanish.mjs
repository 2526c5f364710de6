// Joins and then waits to be killed: `node vanish.mjs <url> <transport> <sessionId> <userId>`.
// A killed process is what a client that lost its network looks like over polling: nothing is said, no poll comes again.
import { io } from 'socket.io-client';

const [url, transport, sessionId, userId] = process.argv.slice(2);
const socket = io(url, { transports: [transport], reconnection: false });
socket.on('connect', () => {
  socket.emit('join-session', { sessionId, userId, userName: userId, isInstructor: false }, (ack) => {
    process.stdout.write(`${JSON.stringify(ack)}\n`);
  });
});
