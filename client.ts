// SPDX-License-Identifier: 0BSD

/**
 * A TCP client that ties the keyboard and the screen to a server.
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

/** All input is sent, and this side is closed. */
let sentAll = false;

/** Standard input to the socket. */
async function send(clientSocket: Deno.TcpConn): Promise<void> {
  try {
    await copy(Deno.stdin, clientSocket);
    // The half-close, which begins the active close.
    await clientSocket.closeWrite().catch(failure(clientSocket));
    sentAll = true;
  } catch (error) {
    // A server that no longer takes anything may have sent replies before.
    // receive() prints those, and says what happened.
    if (error instanceof StreamError && error.stream === clientSocket) return;
    throw error;
  }
}

/** The socket to standard output. */
async function receive(clientSocket: Deno.TcpConn): Promise<void> {
  await copy(clientSocket, Deno.stdout);
  if (!sentAll) await pause(INPUT_END);
  if (!sentAll) throw new EarlyEnd();
}

/** The server closed while there was still something to send. */
class EarlyEnd extends Error {}

/** Moves all bytes as they are. Not `pipeTo()`: that takes two to three times as long. */
async function copy(from: Source, to: Target): Promise<void> {
  const buffer = new Uint8Array(256 * 1024);
  while (true) {
    const count = await from.read(buffer).catch(failure(from));
    if (count === null) return; // end of file
    for (let sent = 0; sent < count;) {
      const rest = buffer.subarray(sent, count);
      sent += await to.write(rest).catch(failure(to));
    }
  }
}

interface Source {
  read(buffer: Uint8Array): Promise<number | null>;
}

interface Target {
  write(bytes: Uint8Array): Promise<number>;
}

/** Which stream failed, and why. */
class StreamError extends Error {
  readonly stream: Source | Target;

  constructor(stream: Source | Target, cause: unknown) {
    super(oneLine(cause), { cause });
    this.stream = stream;
  }
}

/** Notes which stream an error comes from. */
function failure(stream: Source | Target): (cause: unknown) => never {
  return (cause) => {
    throw new StreamError(stream, cause);
  };
}

// --------------------------------------------------------------- the connection

/** How long a connection may take: milliseconds. */
const TIME_LIMIT = 10_000;
/**
 * A server that closes after its first reply may be quicker than the end of a
 * one-line input. How long receive() waits for that end: milliseconds.
 */
const INPUT_END = 500;

/** Opens the client socket, and tells a person at the keyboard about it. */
async function connect(options: Options): Promise<Deno.TcpConn> {
  const interactive = Deno.stdin.isTerminal();
  const waiting = interactive
    ? setTimeout(() => say(`waiting for ${format(options)}`), 1000)
    : undefined;
  // In a pipe no setTimeout(): a process's first one costs a third of its start.
  const signal = AbortSignal.timeout(TIME_LIMIT);
  // Makes the socket, and waits for the three-way handshake.
  const clientSocket = await Deno.connect({ ...options, signal });
  if (waiting !== undefined) clearTimeout(waiting);
  try {
    clientSocket.setNoDelay(); // a line is sent when it is typed
  } catch {
    // macOS, when the server has reset it already: receive() will say so.
  }
  if (interactive) {
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

interface Options {
  /** Address or name of the server. @default "127.0.0.1" */
  hostname: string;
  /** Its port. @default 6789 */
  port: number;
}

const USAGE =
  `A TCP client: standard input to the server, its replies to standard output.

Usage: deno run --allow-net client.ts [options]

  --hostname NAME   the server's address or name (default 127.0.0.1)
  -p, --port N      the server's port (default 6789)
  -h, --help        show this

Ctrl-D (on Windows Ctrl-Z, Enter) ends the input.

Examples:
  deno run --allow-net client.ts
  deno run --allow-net client.ts --hostname 192.168.1.20 --port 7000
  deno run --allow-net client.ts < message.txt > reply.txt`;

/** Reads the options, or ends the process: 0 after help, 2 after a mistake. */
async function readOptions(args: string[]): Promise<Options> {
  if (args.length === 0) return { hostname: "127.0.0.1", port: 6789 };
  // Loading it takes longer than all the rest of a short session.
  const { parseArgs } = await import("node:util");
  try {
    const { values } = parseArgs({
      args,
      options: {
        hostname: { type: "string", default: "127.0.0.1" },
        port: { type: "string", short: "p", default: "6789" },
        help: { type: "boolean", short: "h", default: false },
      },
    });
    if (values.help) {
      console.log(USAGE);
      Deno.exit(0);
    }
    const hostname = values.hostname.replace(/^\[(.*)\]$/, "$1"); // [::1] is ::1
    if (hostname === "") throw new Error("--hostname must not be empty");
    const port = /^[0-9]+$/.test(values.port) ? Number(values.port) : NaN;
    if (!(port >= 1 && port <= 65535)) {
      throw new Error(
        `--port must be a whole number from 1 to 65535, ` +
          `not ${JSON.stringify(values.port)}`,
      );
    }
    return { hostname, port };
  } catch (error) {
    fail(`${oneLine(error)} (--help shows the options)`, 2);
  }
}

/** The commonest mistakes of who changes this program, and wants the stack. */
function isMistake(error: unknown): error is Error {
  return error instanceof ReferenceError ||
    // With a code it is the system's EINVAL, which is a TypeError in Deno.
    error instanceof TypeError && !("code" in error);
}

/** Ends the process with one line that says what went wrong, and what to do. */
function explain(error: unknown, options: Options): never {
  const { hostname, port } = options;
  const address = format(options);
  if (isMistake(error)) throw error;
  if (error instanceof StreamError) {
    if (error.stream === Deno.stdin) {
      fail(`cannot read standard input: ${error.message}`);
    }
    if (error.stream === Deno.stdout) {
      // Whoever read it has had enough, as in `| head -1`.
      if (error.cause instanceof Deno.errors.BrokenPipe) Deno.exit(0);
      fail(`cannot write standard output: ${error.message}`);
    }
    fail(
      `lost the connection to ${address}: ${error.message}; ` +
        `see whether the server still runs`,
    );
  }
  if (error instanceof EarlyEnd) {
    fail(
      `${address} closed before the end of input: it stopped, or nothing ` +
        `came for too long; what has no reply may be lost`,
    );
  }
  if (error instanceof Deno.errors.ConnectionRefused) {
    // Unless told otherwise the server listens to its own machine alone.
    const here = /^(localhost$|127\.|::1$)/.test(hostname);
    const toAll = hostname.includes(":") ? "::" : "0.0.0.0";
    fail(
      `nothing listens on ${address}; start the server first: ` +
        `deno run --allow-net server.ts` +
        (here ? "" : ` --hostname ${toAll}`) +
        (port === 6789 ? "" : ` --port ${port}`),
    );
  }
  if (error instanceof Deno.errors.NotCapable) {
    fail(`no permission for ${address}; run it with deno run --allow-net`);
  }
  if (error instanceof DOMException && error.name === "TimeoutError") {
    fail(
      `${address} has not answered in ${TIME_LIMIT / 1000} s; ` +
        `check --hostname, and the firewalls on the way`,
    );
  }
  fail(`cannot reach ${address}: ${oneLine(error)}; check --hostname`);
}

function fail(message: string, code = 1): never {
  say(message);
  Deno.exit(code);
}

function say(message: string): void {
  console.error(`client: ${message}`);
}

function oneLine(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.replaceAll("\n", " ");
}

/** An address as people write it; IPv6 in brackets. */
function format(
  { hostname, port }: { hostname: string; port: number },
): string {
  return hostname.includes(":")
    ? `[${hostname}]:${port}`
    : `${hostname}:${port}`;
}

if (import.meta.main) {
  const options = await readOptions(Deno.args);
  try {
    await main(options);
  } catch (error) {
    explain(error, options);
  }
}
