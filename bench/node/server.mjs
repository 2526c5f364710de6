// Node's Socket.IO as `lyceum-bench sockets` needs it: rooms, acks, and reactions to all. Nothing is checked and nothing is kept.
//   npm ci && node server.mjs PORT

import { Server } from 'socket.io';

const io = new Server(Number(process.argv[2] ?? 3002), { pingInterval: 10_000, transports: ['websocket'], perMessageDeflate: false });
io.on('connection', (socket) => {
  let session, userId;
  socket.on('join-session', (join, ack) => {
    ({ sessionId: session, userId } = join);
    socket.to(session).emit('user-joined', { userId, userName: join.userName });
    socket.join(session);
    ack({ ok: true });
  });
  socket.on('reaction', ({ emoji }, ack) => {
    io.to(session).emit('reaction', { participantId: socket.id, userId, emoji });
    ack({ ok: true });
  });
});
