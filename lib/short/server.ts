// SPDX-License-Identifier: 0BSD

// A TCP server that sends text back in uppercase, to many clients at once. It is
// short, and does all that the lecture asks; client.ts in this folder is its other
// half. Run both in this folder, in two terminals:
//
//     deno run --allow-net server.ts     # terminal 1
//     deno run --allow-net client.ts     # terminal 2: type a line, press Enter
//
// Another port is a number behind both commands: server.ts 7000. If strangers may
// connect, take the project's longer server.ts.

// Only this machine reaches 127.0.0.1. For clients on other machines write "0.0.0.0".
const hostname = "127.0.0.1";
const port = Number(Deno.args[0] ?? 6789); // the first argument, or 6789
// Passive open: listen() makes the welcome socket, a TCP socket with this address and
// port. It waits for all clients.
const welcomeSocket = Deno.listen({ hostname, port });
console.log(`listening on ${hostname}:${port}`);

// This loop never ends, and the functions stand below it. They can be called here,
// because the runtime knows all functions of a file before it runs the first line.
while (true) {
  try {
    // Each client gets a connection socket of its own.
    const connectionSocket = await welcomeSocket.accept();
    serve(connectionSocket); // no await: the next client need not wait
  } catch {
    // Only accept() can fail here, and the server has to go on. The system connects a
    // client before accept() takes it: the client may have reset its connection in
    // between. Or the system has no more sockets for this process: then a client has to
    // leave first, and a loop without a pause would only take the processor's time.
    // setTimeout() calls resolve() after 1 ms, which ends the await.
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

// Serves one client: its bytes become text, the text becomes uppercase, and this
// becomes bytes again. TCP may cut a letter in two: the decoder keeps the first half
// until the second half comes. Bytes that are no text become U+FFFD. If a text begins
// with U+FEFF, this character is a byte order mark (BOM), and a decoder takes it away.
// Despite its name, ignoreBOM lets it stay: the decoder ignores that it is a mark.
async function serve(connectionSocket: Deno.TcpConn) {
  try {
    const uppercase = new TransformStream({
      transform(text, controller) { // called for each piece of text
        controller.enqueue(text.toUpperCase()); // this comes out
      },
    });
    const replies = bytesFrom(connectionSocket)
      .pipeThrough(new TextDecoderStream("utf-8", { ignoreBOM: true }))
      .pipeThrough(uppercase)
      .pipeThrough(new TextEncoderStream());
    for await (const reply of replies) { // one after the other
      for (let sent = 0; sent < reply.length;) { // write() may take only a part
        sent += await connectionSocket.write(reply.subarray(sent));
      }
    }
  } catch {
    // read() or write() has failed: the client has reset the connection, for example.
    // (An error of read() comes through the pipe, like its bytes.) Nobody is left to
    // answer, and an error that is not caught would end the whole server.
    // (While you change this function, print the error here: it may be your own.)
  } finally {
    connectionSocket.close(); // in any case
  }
}

// What a client sends, as a stream, because only a stream has pipeThrough(). Deno has
// such a stream, `connectionSocket.readable`, but at the end of the client's bytes it
// closes the whole connection, and a reply that is still on its way is lost.
function bytesFrom(connectionSocket: Deno.TcpConn) {
  const buffer = new Uint8Array(64 * 1024); // a choice: read() gives no more than this
  return new ReadableStream({
    async pull(controller) { // called when the pipe has room, and one call at a time
      const count = await connectionSocket.read(buffer); // waits until bytes come
      // At the end of file, the client's half-close, this stream ends.
      if (count === null) controller.close();
      else controller.enqueue(buffer.slice(0, count)); // a copy: buffer is used again
    },
  });
}
