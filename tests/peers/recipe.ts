// SPDX-License-Identifier: 0BSD

// The echo server of Deno's documentation, with a TransformStream in the middle.

const listener = Deno.listen({
  hostname: "127.0.0.1",
  port: Number(Deno.args[0]),
});
console.log(`listening on 127.0.0.1:${listener.addr.port}`);

for await (const conn of listener) {
  const decoder = new TextDecoder();
  const encoder = new TextEncoder();
  const uppercase = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      const text = decoder.decode(chunk, { stream: true });
      controller.enqueue(encoder.encode(text.toUpperCase()));
    },
  });
  conn.readable.pipeThrough(uppercase).pipeTo(conn.writable).catch(() => {});
}
