// SPDX-License-Identifier: 0BSD

// A server in Node without allowHalfOpen: Node ends its side when the client
// ends its own, and what is still in the pipe is lost.

import { createServer } from "node:net";
import { Transform } from "node:stream";

const server = createServer((socket) => {
  const uppercase = new Transform({
    transform: (chunk, _, done) => done(null, `${chunk}`.toUpperCase()),
  });
  socket.on("error", () => {});
  uppercase.on("error", () => {});
  socket.pipe(uppercase).pipe(socket);
});
server.listen(0, "127.0.0.1", () => {
  console.log(`listening on 127.0.0.1:${server.address().port}`);
});
