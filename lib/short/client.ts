// SPDX-License-Identifier: 0BSD

// A TCP client that sends what you type to the server, and prints what comes back.
// server.ts in this folder is its other half, and says how to run both. Ctrl-D on an
// empty line ends the input (on Windows Ctrl-Z, Enter).

const port = Number(Deno.args[0] ?? 6789); // the first argument, or 6789
// Active open: connect() makes the socket and does the three-way handshake. If the
// server is on another machine, write the address of that machine.
const clientSocket = await Deno.connect({ hostname: "127.0.0.1", port });

// Both at the same time, because replies come while there is more to send. This line
// waits until both have ended.
await Promise.all([send(), receive()]);
clientSocket.close();

// From the keyboard to the socket.
async function send() {
  const buffer = new Uint8Array(64 * 1024); // read() gives no more than this
  while (true) {
    const count = await Deno.stdin.read(buffer); // waits for the keyboard
    if (count === null) break; // end of file: there is no more input
    for (let sent = 0; sent < count;) { // write() may take only a part
      sent += await clientSocket.write(buffer.subarray(sent, count));
    }
  }
  await clientSocket.closeWrite(); // half-close: all is sent, replies may come
}

// From the socket to the screen.
async function receive() {
  const buffer = new Uint8Array(64 * 1024);
  while (true) {
    const count = await clientSocket.read(buffer); // waits for the server
    if (count === null) break; // end of file: the server has closed
    for (let printed = 0; printed < count;) {
      printed += await Deno.stdout.write(buffer.subarray(printed, count));
    }
  }
}
