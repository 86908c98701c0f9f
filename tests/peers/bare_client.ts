// SPDX-License-Identifier: 0BSD

// As little as a client can do: connect, send one line, print its reply.

const conn = await Deno.connect({ port: Number(Deno.args[0]) });
await conn.write(new TextEncoder().encode("hello\n"));
const buffer = new Uint8Array(1024);
const count = await conn.read(buffer);
await Deno.stdout.write(buffer.subarray(0, count ?? 0));
conn.close();
