// SPDX-License-Identifier: 0BSD

// The service in Node: net, and a Transform with a StringDecoder.
//
//     node tests/peers/node.mjs [PORT]

import { createServer } from "node:net";
import { pipeline, Transform } from "node:stream";
import { StringDecoder } from "node:string_decoder";

class Uppercase extends Transform {
  #decoder = new StringDecoder("utf8");

  _transform(chunk, _encoding, done) {
    done(null, this.#decoder.write(chunk).toUpperCase());
  }

  _flush(done) {
    done(null, this.#decoder.end().toUpperCase());
  }
}

// Without allowHalfOpen Node ends its side when the client ends its own, with
// the reply still on its way.
const server = createServer({ allowHalfOpen: true }, (socket) => {
  pipeline(socket, new Uppercase(), socket, () => {}); // its failure is no other's
});
server.listen(Number(process.argv[2] ?? 0), "127.0.0.1", () => {
  console.log(`listening on 127.0.0.1:${server.address().port}`);
});
