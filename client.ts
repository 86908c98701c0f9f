#!/usr/bin/env -S deno run --allow-net
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

/** Connects, sends all of standard input, prints all replies. */
async function main(options: Options): Promise<void> {
  const clientSocket = await connect(options); // active open
  await Promise.all([
    send(clientSocket),
    receive(clientSocket),
  ]);
  clientSocket.close(); // all is sent, and the server has closed
}

/** How far the conversation is. */
const state = {
  /** All input is sent, and this side is closed. */
  sentAll: false,
  /** The server has closed its side. */
  serverClosed: false,
  /** Why not all input could be sent. */
  sendError: undefined as StreamError | undefined,
};

/** Standard input to the socket. */
async function send(clientSocket: Deno.TcpConn): Promise<void> {
  try {
    await copy(Deno.stdin, clientSocket);
    // The half-close, which begins the active close.
    await attempt(clientSocket, () => clientSocket.closeWrite());
    state.sentAll = true;
    if (state.serverClosed) Deno.exit(0); // receive() can stop waiting
  } catch (error) {
    // A server that no longer takes anything may have sent replies before.
    // receive() prints those, and says what happened.
    if (!(error instanceof StreamError)) throw error;
    if (error.stream !== clientSocket) throw error;
    state.sendError = error;
  }
}

/** The socket to standard output. */
async function receive(clientSocket: Deno.TcpConn): Promise<void> {
  await copy(clientSocket, Deno.stdout);
  state.serverClosed = true;
  if (state.sentAll) return;
  // A server that closes after its last reply may be quicker than the end of the
  // input. If the input goes on, nobody is left to answer it.
  if (!state.sendError) await pause(INPUT_END);
  if (state.sendError?.cause instanceof Deno.errors.ConnectionReset) {
    throw state.sendError; // it was a reset, though read() saw only an end
  }
  throw new EarlyEnd();
}

/** The server closed while there was still something to send. */
class EarlyEnd extends Error {}

/**
 * Moves all bytes as they are, until the end of file, or until the server closes.
 *
 * Not `pipeTo()`: it is slower, and with `clientSocket.writable` it would close the
 * whole socket, and replies would be lost:
 * https://github.com/denoland/deno/issues/27510
 */
async function copy(from: Source, to: Target): Promise<void> {
  const buffer = new Uint8Array(256 * 1024);
  while (true) {
    const count = await attempt(from, () => from.read(buffer));
    if (count === null) return; // end of file
    if (state.serverClosed) throw new EarlyEnd(); // nobody answers this input
    for (let sent = 0; sent < count;) {
      const rest = buffer.subarray(sent, count);
      sent += await attempt(to, () => to.write(rest));
    }
  }
}

// Standard input has the read() of a socket, and standard output its write().
type Source = Pick<Deno.TcpConn, "read">;
type Target = Pick<Deno.TcpConn, "write">;

/** Which stream failed, and why. */
class StreamError extends Error {
  constructor(readonly stream: Source | Target, cause: Error) {
    super(cause.message, { cause });
  }
}

/** Does one operation on a stream, and notes the stream that an error is from. */
async function attempt<T>(
  stream: Source | Target,
  operation: () => Promise<T>,
): Promise<T> {
  while (true) {
    try {
      return await operation();
    } catch (cause) {
      // The system's errors have a code. Any other one is a mistake in this file.
      if (!(cause instanceof Error && "code" in cause)) throw cause;
      // We try again if a pipe that does not block is full or empty now, or if a
      // signal has interrupted us (EINTR).
      if (cause instanceof Deno.errors.WouldBlock) await pause(NEXT_TRY);
      else if (cause.code !== "EINTR") throw new StreamError(stream, cause);
    }
  }
}

// --------------------------------------------------------------- the connection

/** How long a connection may take: milliseconds. */
const TIME_LIMIT = 10_000;
/** How long the input may go on after the server has closed: milliseconds. */
const INPUT_END = 500;
/** How long to wait before a pipe is tried again: milliseconds. */
const NEXT_TRY = 10;

/** Opens the client socket, and tells a person at the keyboard about it. */
async function connect(options: Options): Promise<Deno.TcpConn> {
  const interactive = Deno.stdin.isTerminal();
  let clientSocket: Deno.TcpConn;
  let waiting: ReturnType<typeof setTimeout> | undefined;
  try {
    // Without --allow-net Deno asks the user now, before the time limit begins.
    // (After a "no", connect() fails.)
    await Deno.permissions.request({ name: "net", host: format(options) });
    if (interactive) {
      waiting = setTimeout(() => say(`waiting for ${format(options)}`), 1000);
    }
    // Makes connect() fail with a TimeoutError. (A process that uses setTimeout() or
    // clearTimeout() needs 5 ms more. So a short session uses none.)
    const signal = AbortSignal.timeout(TIME_LIMIT);
    // Makes the socket, and waits for the three-way handshake.
    clientSocket = await Deno.connect({ ...options, signal });
    clientSocket.setNoDelay(); // a line is sent when it is typed
  } catch (error) {
    cannotConnect(error, options);
  }
  if (interactive) {
    clearTimeout(waiting);
    const { localAddr, remoteAddr } = clientSocket;
    const end = Deno.build.os === "windows"
      ? "Ctrl-Z, Enter"
      : "Ctrl-D on an empty line";
    say(
      `${format(localAddr)} is connected to ${format(remoteAddr)}; ${end} ends`,
    );
  }
  return clientSocket;
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

// ------------------------------------------------------- options and messages

const DEFAULTS = { hostname: "127.0.0.1", port: "6789", help: false };

const USAGE =
  `A TCP client: standard input to the server, its replies to standard output.

Usage: deno run --allow-net client.ts [options]

  --hostname NAME   the server's address or name (default ${DEFAULTS.hostname})
  -p, --port N      the server's port (default ${DEFAULTS.port})
  -h, --help        show this

Ctrl-D (on Windows Ctrl-Z, Enter) ends the input.

Examples:
  deno run --allow-net client.ts
  deno run --allow-net client.ts --hostname 192.168.1.20 --port 7000
  deno run --allow-net client.ts < message.txt > reply.txt`;

interface Options {
  hostname: string;
  port: number;
}

/** Reads the options, or ends the process: 0 after help, 2 after a mistake. */
async function readOptions(args: string[]): Promise<Options> {
  let values = DEFAULTS;
  try {
    if (args.length > 0) {
      // Loading it takes a quarter of a short session.
      const { parseArgs } = await import("node:util");
      const given = parseArgs({
        args,
        options: {
          hostname: { type: "string" },
          port: { type: "string", short: "p" },
          help: { type: "boolean", short: "h" },
        },
      });
      values = { ...DEFAULTS, ...given.values };
    }
    if (values.help) showUsage();
    const hostname = values.hostname.replace(/^\[(.*)\]$/, "$1"); // [::1] is ::1
    if (hostname === "") throw new Error("--hostname must not be empty");
    const port = /^[0-9]+$/.test(values.port) ? Number(values.port) : NaN;
    if (port >= 1 && port <= 65535) return { hostname, port };
    throw new Error(
      `--port must be a whole number from 1 to 65535, ` +
        `not ${JSON.stringify(values.port)}`,
    );
  } catch (error) {
    fail(`${messageOf(error)} (--help shows the options)`, 2);
  }
}

function showUsage(): never {
  try {
    console.log(USAGE);
  } catch (error) {
    fail(`cannot write standard output: ${messageOf(error)}`);
  }
  Deno.exit(0);
}

/** Says why there is no connection, and what to do about it. */
function cannotConnect(error: unknown, options: Options): never {
  const address = format(options);
  if (
    error instanceof Deno.errors.ConnectionReset ||
    error instanceof Deno.errors.NotConnected
  ) lost(address, error); // the server reset the connection at once

  let why = `${messageOf(error)}; check --hostname`;
  if (error instanceof Deno.errors.ConnectionRefused) {
    why = `nothing listens there; start the server first: ` +
      `deno run --allow-net server.ts --port ${options.port}; if it runs, ` +
      `give the --hostname and --port of its first line (127.0.0.1 there ` +
      `works only on the same machine: see its --help)`;
  } else if (error instanceof Deno.errors.NotCapable) {
    why = "no permission; run it with deno run --allow-net";
  } else if (error instanceof DOMException && error.name === "TimeoutError") {
    why = `no answer in ${TIME_LIMIT / 1000} s; ` +
      `check --hostname, and the firewalls on the way`;
  }
  fail(`cannot reach ${address}: ${why}`);
}

/** Ends the process with one line that says what went wrong, and what to do. */
function explain(error: unknown, address: string): never {
  if (error instanceof EarlyEnd) {
    fail(
      `${address} closed before the end of input (perhaps it answers only once, ` +
        `has stopped, had nothing for too long, or has too many clients from ` +
        `this address); what has no reply may be lost`,
    );
  }
  if (!(error instanceof StreamError)) throw error;
  if (error.stream === Deno.stdin) {
    fail(`cannot read standard input: ${error.message}`);
  }
  if (error.stream === Deno.stdout) {
    // The next program has stopped reading, as in `| head -1`.
    if (error.cause instanceof Deno.errors.BrokenPipe) Deno.exit(0);
    fail(`cannot write standard output: ${error.message}`);
  }
  lost(address, error);
}

function lost(address: string, error: unknown): never {
  fail(
    `lost the connection to ${address}: ${messageOf(error)}; ` +
      `see whether the server still runs`,
  );
}

function fail(message: string, code = 1): never {
  say(message);
  Deno.exit(code);
}

function say(message: string): void {
  console.error(`client: ${message.replaceAll(/[\r\n]+/g, " ")}`);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** An address as people write it; IPv6 in brackets. */
function format({ hostname, port }: Options): string {
  const host = hostname.includes(":") ? `[${hostname}]` : hostname;
  return `${host}:${port}`;
}

if (import.meta.main) {
  const options = await readOptions(Deno.args);
  await main(options).catch((error) => explain(error, format(options)));
}
