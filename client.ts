// SPDX-License-Identifier: 0BSD

/**
 * A TCP client that connects the keyboard and the screen to a server.
 * `server.ts` is its other half.
 *
 *     deno run --allow-net server.ts     # terminal 1
 *     deno run --allow-net client.ts     # terminal 2: type a line, press Enter
 *
 * Bytes flow both ways at the same time:
 *
 *     standard input (keyboard) -> clientSocket
 *                                  clientSocket -> standard output (screen)
 *
 * At the end of input (Ctrl-D) the client closes its sending side alone, and
 * reads on until the server has sent its last reply and closes too.
 *
 * @module
 */

/**
 * Connects, sends all of standard input, prints all replies. The last line of this
 * file calls it: then all constants and variables below have their values.
 */
async function main(options: Options): Promise<void> {
  const clientSocket = await connect(options); // active open
  const [whyNotSent] = await Promise.all([
    send(clientSocket).catch(reasonOrThrow), // receive() goes on
    receive(clientSocket),
  ]);
  if (whyNotSent) failLost(clientSocket.remoteAddr, whyNotSent);
  clientSocket.close(); // all is sent, and the server has closed
  Deno.exit(0); // even if a pause() is still running
}

/** How long a connection may take, a choice: milliseconds. */
const TIME_LIMIT = 10_000;

/** Opens the client socket, and tells a person at the keyboard about it. */
async function connect(options: Options): Promise<Deno.TcpConn> {
  let clientSocket: Deno.TcpConn;
  try {
    // Without --allow-net Deno asks the user now, before the time limit begins.
    await Deno.permissions.request({ name: "net", host: format(options) });
    const signal = AbortSignal.timeout(TIME_LIMIT);
    // Makes the socket, and waits for the three-way handshake.
    clientSocket = await Deno.connect({ ...options, signal });
    clientSocket.setNoDelay(); // a line is sent when it is typed
  } catch (error) {
    failToConnect(error as Error, options);
  }
  const from = format(clientSocket.localAddr);
  const to = format(clientSocket.remoteAddr);
  // The system may give the client the same port that it connects to. If nobody
  // listens there, the client is now connected to itself.
  if (from === to) failToConnect(new Deno.errors.ConnectionRefused(), options);
  if (Deno.stdin.isTerminal()) {
    say(`${from} is connected to ${to}; ${END_KEYS} ends`);
  }
  return clientSocket;
}

const BUFFER_SIZE = 256 * 1024; // bytes: more is no faster
/** Whether the server has closed its side. */
let serverClosed = false;
/** How long the reset after that may take, a choice: milliseconds. */
const RESET_TIME = 200;

/** Standard input to the socket. */
async function send(clientSocket: Deno.TcpConn): Promise<void> {
  const buffer = new Uint8Array(BUFFER_SIZE);
  while (true) {
    const count = await Deno.stdin.read(buffer)
      .catch((error) =>
        fail(`cannot read standard input: ${reasonOrThrow(error)}`)
      );
    if (count === null) break; // end of file
    for (let sent = 0; sent < count;) { // write() may take only a part
      // A write() to a server that has closed does not fail at once.
      if (serverClosed) failLost(clientSocket.remoteAddr, CLOSED_EARLY);
      sent += await clientSocket.write(buffer.subarray(sent, count));
    }
  }
  // If the server has closed, it may have missed the last line. Its system answers that
  // with a reset, after some time, and then this write fails. closeWrite() would not.
  if (serverClosed) await pause(RESET_TIME);
  await clientSocket.write(new Uint8Array(0));
  await clientSocket.closeWrite(); // half-close, which begins the active close
  watchSilence(clientSocket.remoteAddr);
}

/** The socket to standard output. */
async function receive(clientSocket: Deno.TcpConn): Promise<void> {
  const buffer = new Uint8Array(BUFFER_SIZE);
  while (true) {
    silence = 0; // from now on the client waits for the server
    const count = await clientSocket.read(buffer)
      .catch((error) =>
        failLost(clientSocket.remoteAddr, reasonOrThrow(error))
      );
    silence = -Infinity; // from now on the client waits for the screen
    if (count === null) break; // the server has closed its side
    await print(buffer.subarray(0, count));
  }
  serverClosed = true;
  // send() may be waiting for the keyboard, and would not see it. If the input ends
  // within half a second, a choice, the process ends before this.
  pause(500 + RESET_TIME).then(() =>
    failLost(clientSocket.remoteAddr, CLOSED_EARLY)
  );
}

/**
 * Writes to standard output. A write that fails is never repeated: a part of the bytes
 * may have been written, and Deno does not say how many.
 */
async function print(bytes: Uint8Array): Promise<void> {
  for (let printed = 0; printed < bytes.length;) {
    printed += await Deno.stdout.write(bytes.subarray(printed))
      .catch((error) => {
        // The next program has stopped reading, as in `| head -1`.
        if (error instanceof Deno.errors.BrokenPipe) Deno.exit(0);
        fail(`cannot write standard output: ${reasonOrThrow(error)}`);
      });
  }
}

// ------------------------------------------------------- a server that is silent
// Without this, a person who has sent all waits, and is not told what for.

/** Milliseconds of waiting for the server; -Infinity while it waits for the screen. */
let silence = 0;

/** Says, once, that the server says nothing and does not close its side. */
async function watchSilence(server: Options): Promise<void> {
  while (silence < 5000) {
    await pause(500);
    silence += 500;
  }
  say(
    `all is sent, but ${format(server)} has not closed its side; Ctrl-C ends`,
  );
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

// ------------------------------------------------------- options and messages
// Without this, the address is fixed, and a mistake ends in a stack trace.

const DEFAULTS: Options = { hostname: "127.0.0.1", port: 6789 };

const END_KEYS = Deno.build.os === "windows"
  ? "Ctrl-Z, Enter"
  : "Ctrl-D on an empty line";

const USAGE =
  `A TCP client: standard input to the server, its replies to standard output.

Usage: deno run --allow-net client.ts [options] [< file] [> file]

  --hostname NAME   the server's address or name (default ${DEFAULTS.hostname})
  -p, --port N      the server's port (default ${DEFAULTS.port})
  -h, --help        show this

${END_KEYS} ends the input.`;

interface Options {
  hostname: string;
  port: number;
}

/** Reads the options, or ends the process: 0 after help, 2 after a mistake. */
async function readOptions(args: string[]): Promise<Options> {
  if (args.length === 0) return DEFAULTS;
  try {
    // A session without options is short, and does not wait until this is loaded.
    const { parseArgs } = await import("node:util");
    const { values } = parseArgs({
      args,
      options: {
        hostname: { type: "string", default: DEFAULTS.hostname },
        port: { type: "string", short: "p", default: `${DEFAULTS.port}` },
        help: { type: "boolean", short: "h" },
      },
    });
    if (values.help) {
      console.log(USAGE);
      Deno.exit(0);
    }
    const hostname = values.hostname.replace(/^\[(.*)\]$/, "$1"); // [::1] is ::1
    if (hostname === "") throw new Error("--hostname must not be empty");
    const port = /^[0-9]+$/.test(values.port) ? Number(values.port) : NaN;
    if (port >= 1 && port <= 65535) return { hostname, port };
    throw new Error(
      `--port must be a whole number from 1 to 65535, ` +
        `not ${JSON.stringify(values.port)}`,
    );
  } catch (error) {
    fail(`${(error as Error).message} (--help shows the options)`, 2);
  }
}

/** Says why there is no connection and what to do about it, and ends the process. */
function failToConnect(error: Error, options: Options): never {
  if (
    error instanceof Deno.errors.ConnectionReset ||
    error instanceof Deno.errors.NotConnected
  ) failLost(options, error.message); // the server has reset the new connection
  let why = `${error.message}; check --hostname`;
  if (error instanceof Deno.errors.ConnectionRefused) {
    why =
      `nothing listens there; start the server first: deno run --allow-net ` +
      `server.ts --hostname ${options.hostname} --port ${options.port}`;
  } else if (error instanceof Deno.errors.NotCapable) {
    why = "no permission; run it with deno run --allow-net";
  } else if (error.name === "TimeoutError") {
    why = `no answer in ${TIME_LIMIT / 1000} s; ` +
      `check --hostname, and the firewalls on the way`;
  }
  fail(`cannot reach ${format(options)}: ${why}`);
}

const CLOSED_EARLY = "it closed before the end of input";

/** Says that the connection is lost, and ends the process. */
function failLost(server: Options, why: string): never {
  fail(
    `lost the connection to ${format(server)}: ${why}; ` +
      `perhaps it has stopped, answers only once, or waited too long`,
  );
}

/** The system's words for an error. An error without a code is a mistake in this file. */
function reasonOrThrow(error: unknown): string {
  if (error instanceof Error && "code" in error) return error.message;
  throw error;
}

/** Says in one line what is wrong, and ends the process. */
function fail(message: string, code = 1): never {
  say(message);
  Deno.exit(code);
}

function say(message: string): void {
  console.error(`client: ${message.replaceAll(/[\r\n]+/g, " ")}`);
}

/** An address as people write it; IPv6 in brackets. */
function format({ hostname, port }: Options): string {
  const host = hostname.includes(":") ? `[${hostname}]` : hostname;
  return `${host}:${port}`;
}

// Not if another program imports this file.
if (import.meta.main) await main(await readOptions(Deno.args));
