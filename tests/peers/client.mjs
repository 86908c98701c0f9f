// SPDX-License-Identifier: 0BSD

/**
 * A client in Node: both ways at the same time.
 *
 *     node tests/peers/client.mjs PORT
 */

import { connect } from "node:net";

const clientSocket = connect({
  host: "127.0.0.1",
  port: Number(process.argv[2]),
  allowHalfOpen: false,
});
process.stdin.pipe(clientSocket).pipe(process.stdout);
