// SPDX-License-Identifier: 0BSD

// The client that everybody writes: standard input to the socket, the socket to
// standard output.

const conn = await Deno.connect({ port: Number(Deno.args[0]) });
await Promise.all([
  Deno.stdin.readable.pipeTo(conn.writable),
  conn.readable.pipeTo(Deno.stdout.writable),
]);
