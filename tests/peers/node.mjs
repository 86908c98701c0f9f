// SPDX-License-Identifier: 0BSD

// A Transform between the two directions of a socket; StringDecoder keeps a
// character that TCP has cut.

import net from "node:net";
import { pipeline, Transform } from "node:stream";
import { StringDecoder } from "node:string_decoder";

const server = net.createServer({ allowHalfOpen: true }, (socket) => {
  const decoder = new StringDecoder("utf8");
  const uppercase = new Transform({
    transform(chunk, _encoding, done) {
      done(null, decoder.write(chunk).toUpperCase());
    },
    flush(done) {
      done(null, decoder.end().toUpperCase());
    },
  });
  pipeline(socket, uppercase, socket, () => {}); // an error is that client's
});
server.listen(Number(process.argv[2]), "127.0.0.1", () => {
  console.log(`listening on 127.0.0.1:${server.address().port}`);
});
