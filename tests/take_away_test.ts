// SPDX-License-Identifier: 0BSD

/**
 * No line is there for nothing: each part of the scripts is taken out of a copy,
 * and what "Without this" says of it is seen to happen.
 *
 * Each experiment runs twice, with the script as it is and with the copy, and
 * must come out right and wrong.
 */

import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { listening, Script, type StartOptions } from "../lib/parts/process.ts";
import {
  type Address,
  exchange,
  readAll,
  reset,
  talk,
  writeAll,
} from "../lib/parts/tcp.ts";
import { connectionStates, has } from "./machine.ts";
import {
  ask,
  changed,
  CLIENT,
  readSlowly,
  SERVER,
  startFlood,
  startLoggedServer,
  TEXT,
  UPPER,
} from "./pair.ts";

interface Row {
  /** What is taken away, as README.md has it. */
  part: string;
  /** What then happens, as README.md has it. */
  without: string;
  script: string;
  /** What is replaced by what; each text is there just once. */
  edits: [string, string][];
  /** Whether the promise holds of the script at this path. */
  holds: (path: string) => Promise<boolean>;
  /** The program that the experiment needs. */
  needs?: string;
}

// ------------------------------------------------------------ the experiments

/** An experiment with a server that listens. */
function withServer(
  experiment: (address: Address, server: Script) => Promise<boolean>,
  args: string[] = [],
  options: StartOptions = {},
): Row["holds"] {
  return async (path) => {
    await using server = Script.start(path, {
      ...options,
      args: ["--port", "0", ...args],
    });
    return await experiment(await listening(server), server);
  };
}

/** Whether something happens; that it never does takes four seconds to say. */
async function happens(promise: Promise<unknown>): Promise<boolean> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const never = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), 4000);
  });
  const yes = promise.then(() => true, () => false);
  const answer = await Promise.race([yes, never]);
  clearTimeout(timer);
  return answer;
}

/** Whether a second client is answered while a first one is served. */
async function secondIsServed(address: Address): Promise<boolean> {
  using first = await Deno.connect(address);
  await ask(first, "first\n");
  using second = await Deno.connect(address);
  let answered = false;
  const reply = ask(second, "second\n").then(() => answered = true);
  for (let line = 0; line < 500; line++) await ask(first, "first\n");
  const inTime = answered;
  first.close();
  await reply;
  return inTime;
}

/** Whether every byte of a long reply comes to a client that reads slowly. */
async function replyIsWhole(address: Address): Promise<boolean> {
  using connection = await Deno.connect(address);
  const [length] = await Promise.all([
    readSlowly(connection, UPPER).catch(() => 0),
    writeAll(connection, TEXT).then(() => connection.closeWrite())
      .catch(() => {}),
  ]);
  return length === UPPER.length;
}

function equal(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length &&
    one.every((byte, at) => byte === other[at]);
}

/** Whether a character that comes in two packets is made uppercase. */
async function cutIsMended(address: Address): Promise<boolean> {
  using connection = await Deno.connect(address);
  await connection.write(Uint8Array.of(0x61, 0x0a, 0xc3));
  await connection.read(new Uint8Array(2)); // "A": the first packet was read
  await connection.write(Uint8Array.of(0xa8));
  await connection.closeWrite();
  return equal(await readAll(connection), Uint8Array.of(0xc3, 0x88));
}

/** Whether what is replied after the end of input comes: half a character. */
async function endIsWhole(address: Address): Promise<boolean> {
  const sent = Uint8Array.of(0x61, 0xc3);
  const reply = await exchange(address, sent).catch(() => new Uint8Array(0));
  return equal(reply, Uint8Array.of(0x41, 0xc3));
}

async function survivesResets(address: Address): Promise<boolean> {
  for (let round = 0; round < 50; round++) {
    await Promise.all(Array.from({ length: 10 }, () => reset(address)));
  }
  return await happens(talk(address, "hello\n"));
}

/** Whether newcomers are answered beside clients that flood. */
async function newcomersAreServed(address: Address): Promise<boolean> {
  await using _flood = await startFlood(address);
  return await happens((async () => {
    for (let n = 0; n < 5; n++) await talk(address, "hello\n");
  })());
}

async function silentOneIsClosed(address: Address): Promise<boolean> {
  using silent = await Deno.connect(address);
  return await happens(readAll(silent));
}

async function transferEnds(address: Address, server: Script) {
  using busy = await Deno.connect(address);
  const sending = writeAll(busy, TEXT).then(() => busy.closeWrite());
  await busy.read(new Uint8Array(1));
  server.kill("SIGTERM");
  const [rest] = await Promise.all([readAll(busy), sending])
    .catch(() => [new Uint8Array(0)]);
  return 1 + rest.length === UPPER.length;
}

/**
 * Whether replies still come that were on their way when the server said
 * goodbye, though the client sends one more byte.
 */
async function goodbyeTakesNothingBack(address: Address): Promise<boolean> {
  using client = await Deno.connect(address);
  const long = TEXT.subarray(0, 2_000_000); // fits where nobody has to read
  await writeAll(client, long);
  const { port } = client.localAddr as Deno.NetAddr;
  while (!await hasSaidGoodbye(port)) await pause(10);
  await client.write(Uint8Array.of(0x61)).catch(() => {});
  const reply = await readAll(client).catch(() => new Uint8Array(0));
  return reply.length >= long.length - 1;
}

/** Whether the other end of a local connection has closed its sending side. */
async function hasSaidGoodbye(port: number): Promise<boolean> {
  const states = await connectionStates();
  return states.some((state) => state.includes(` ${port} FIN_WAIT`));
}

/** Whether the server answers while nobody reads its log. */
async function goesOnWithoutLogReader(path: string): Promise<boolean> {
  await using server = await startLoggedServer(path);
  using _log = server.log;
  let goesOn = true;
  // Two lines each: more than a pipe holds, which is 64 KiB.
  for (let client = 0; goesOn && client < 1000; client++) {
    goesOn = await happens(talk(server.address, "a\n"));
  }
  return goesOn;
}

/** Runs a command under strace; whether it sets TCP_NODELAY. */
async function setsNoDelay(
  run: (wrapper: string[]) => Promise<unknown>,
): Promise<boolean> {
  const trace = await Deno.makeTempFile();
  await run(["strace", "-D", "-f", "-e", "trace=setsockopt", "-o", trace]);
  const calls = await Deno.readTextFile(trace);
  await Deno.remove(trace);
  return /TCP_NODELAY, \[1\]/.test(calls);
}

const serverSetsNoDelay = (path: string) =>
  setsNoDelay(async (wrapper) => {
    await using server = Script.start(path, { wrapper, args: ["--port", "0"] });
    await talk(await listening(server), "hello\n");
  });

const clientSetsNoDelay = (path: string) =>
  setsNoDelay((wrapper) => runClient(path, { input: "hello\n", wrapper }));

/** Runs the client on an input, with the right server; whether it ends. */
async function runClient(
  path: string,
  { input, ...options }: StartOptions & { input: string },
): Promise<boolean> {
  await using server = Script.start(SERVER, { args: ["--port", "0"] });
  const { port } = await listening(server);
  await using client = Script.start(path, {
    ...options,
    args: ["--port", `${port}`],
  });
  await client.write(input);
  await client.closeInput();
  return await happens(client.ending());
}

/** Whether the client says that input was left when the server closed. */
async function earlyEndIsTold(path: string): Promise<boolean> {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await using client = Script.start(path, {
    args: ["--port", `${listener.addr.port}`],
  });
  await client.write("one\n");
  using connection = await listener.accept();
  await connection.read(new Uint8Array(10));
  await connection.write(new TextEncoder().encode("ONE\n"));
  await client.stdoutMatch(/ONE/);
  await connection.closeWrite();
  await pause(200); // it reads the end
  await client.write("two\n");
  await client.closeInput();
  return (await client.ending()).code === 1;
}

/** Whether all of a long reply comes through a pipe that does not block. */
async function fullPipeIsWaitedFor(path: string): Promise<boolean> {
  await using server = Script.start(SERVER, { args: ["--port", "0"] });
  const { port } = await listening(server);
  const program = `
import fcntl, os, select, subprocess, sys
reading, writing = os.pipe()
fcntl.fcntl(writing, fcntl.F_SETFL, os.O_NONBLOCK | os.O_WRONLY)
client = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=writing)
os.close(writing)
if os.fork() == 0:
    os.close(reading)
    client.stdin.write(b"a" * 1_000_000)
    os._exit(0)
client.stdin.close()
select.select([reading], [], []) # replies come, and nobody reads them
try: client.wait(2)
except subprocess.TimeoutExpired: pass
total = 0
while data := os.read(reading, 1000): total += len(data)
print(total, client.wait())
`;
  await using python = Script.command([
    ...["python3", "-c", program],
    ...[Deno.execPath(), "run", "--allow-net", path, "--port", `${port}`],
  ]);
  return (await python.ending()).stdout === "1000000 0\n";
}

async function saysWhatToDo(path: string): Promise<boolean> {
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await using server = Script.start(path, {
    args: ["--port", `${taken.addr.port}`],
  });
  return /^server: .* it is in use; .*\n$/.test((await server.ending()).stderr);
}

// ------------------------------------------------------------------- the table

const ROWS: Row[] = [
  {
    part: "the pipe's ends: read(), not .readable",
    without: "what is replied after the end of input is lost",
    script: SERVER,
    edits: [["await bytesFrom(client)", "await connectionSocket.readable"]],
    holds: withServer(endIsWhole),
  },
  {
    part: "the pipe's ends: the second buffer",
    without: "the next read writes over a reply not yet sent",
    script: SERVER,
    edits: [["      [buffer, other] = [other, buffer];\n", ""]],
    holds: withServer(replyIsWhole),
  },
  {
    part: "the text's stream: a character that is cut",
    without: "a letter that comes in two packets stays lowercase",
    script: SERVER,
    edits: [["length - unfinished(length)", "length"]],
    holds: withServer(cutIsMended),
  },
  {
    part: "serve() is not awaited",
    without: "a client waits until the one before it has left",
    script: SERVER,
    edits: [[
      "    serve(connectionSocket);",
      "    await serve(connectionSocket);",
    ]],
    holds: withServer(secondIsServed),
  },
  {
    part: "setNoDelay()",
    without: "a reply waits until the one before is acknowledged",
    script: SERVER,
    edits: [["    connectionSocket.setNoDelay();", "   "]],
    holds: serverSetsNoDelay,
    needs: "strace",
  },
  {
    part: "who may come in: the try around accept()",
    without: "a client that resets at once ends the server",
    script: SERVER,
    edits: [[
      "      // This client has reset its connection",
      "      throw error;\n      //",
    ]],
    holds: withServer(survivesResets),
  },
  {
    part: "who may come in: the limit of clients",
    without: "clients come in without end",
    script: SERVER,
    edits: [["clients.size >= maxConnections", "false"]],
    holds: withServer(
      async (address) => !await secondIsServed(address),
      ["--max-connections", "1"],
    ),
  },
  {
    part: "who may come in: the limit for an address",
    without: "one address takes every place",
    script: SERVER,
    edits: [[
      "if (mayComeIn(connectionSocket, maxPerAddress)) return",
      "return",
    ]],
    holds: withServer(async (address) => {
      using first = await Deno.connect(address);
      await ask(first, "first\n");
      return await talk(address, "second\n").catch(() => "") === "";
    }, ["--max-per-address", "1"]),
  },
  {
    part: "whose turn it is",
    without: "clients that flood hold all others up for seconds",
    script: SERVER,
    edits: [[
      "return othersTurn();",
      "",
    ]],
    holds: withServer(newcomersAreServed),
    needs: "python3",
  },
  {
    part: "who has to go: the clock",
    without: "a client that says nothing keeps its place for ever",
    script: SERVER,
    edits: [["  watchQuietClients(options.idleTimeout);\n", ""]],
    holds: withServer(silentOneIsClosed, ["--idle-timeout", "1"]),
  },
  {
    part: "how it stops: the signals",
    without: "Ctrl-C cuts replies off in the middle",
    script: SERVER,
    edits: [["  stopOnSignal(welcomeSocket);\n", ""]],
    holds: withServer(transferEnds),
  },
  {
    part: "how it stops: the goodbye",
    without: "close() may reset: the end of a reply is lost",
    script: SERVER,
    edits: [[
      "if (client.replying) client.close();",
      "client.close(); if (0);",
    ]],
    holds: withServer(goodbyeTakesNothingBack, ["--idle-timeout", "1"]),
  },
  {
    part: "the log",
    without: "a log that nobody reads stops the server",
    script: SERVER,
    edits: [[
      "  if (logging.lines.desiredSize! > 0) {",
      '  console.log(line);\n  if (line !== "") return;\n' +
      "  if (logging.lines.desiredSize! > 0) {",
    ]],
    holds: goesOnWithoutLogReader,
    needs: "mkfifo",
  },
  {
    part: "options and messages: cannotListen()",
    without: "a port in use gives a stack trace",
    script: SERVER,
    edits: [["    cannotListen(error, format(options));", "    throw error;"]],
    holds: saysWhatToDo,
  },
  {
    part: "client.ts: the half-close",
    without: "the server waits for more; the client never ends",
    script: CLIENT,
    edits: [["() => clientSocket.closeWrite()", "() => Promise.resolve()"]],
    holds: (path) => runClient(path, { input: "a\n" }),
  },
  {
    part: "client.ts: setNoDelay()",
    without: "a line waits until the one before is acknowledged",
    script: CLIENT,
    edits: [["    clientSocket.setNoDelay();", "   "]],
    holds: clientSetsNoDelay,
    needs: "strace",
  },
  {
    part: "client.ts: input after the server's end",
    without: "a line is lost, and the exit code is 0",
    script: CLIENT,
    edits: [["    if (state.serverClosed) throw new EarlyEnd();", ""]],
    holds: earlyEndIsTold,
  },
  {
    part: "client.ts: a full pipe is tried again",
    without: "a slow reader of the output loses the reply",
    script: CLIENT,
    edits: [["cause instanceof Deno.errors.WouldBlock", "false"]],
    holds: fullPipeIsWaitedFor,
    needs: "python3",
  },
];

Deno.test("README - what you may leave out is what is taken away here", async () => {
  const readme = await Deno.readTextFile(join(dirname(SERVER), "README.md"));
  const [, here] = readme.split("\n### What you may leave out\n");
  const [, , ...rows] = here!.split("\n## ")[0].match(/^\|.*\|$/gm)!;
  const plain = rows.map((row) => row.replaceAll("`", "").split(/ *\| */));
  assert.deepEqual(
    plain.map((cells) => cells.slice(1, -1)),
    ROWS.map(({ part, without }) => [part, without]),
  );
});

for (const { part, without, script, edits, holds, needs } of ROWS) {
  Deno.test({
    name: `without ${part}: ${without}`,
    ignore: Deno.build.os !== "linux" || needs !== undefined && !has(needs),
    async fn() {
      await using copy = await changed(script, edits);
      assert.ok(
        await holds(script),
        "the script as it is does not hold its promise",
      );
      assert.ok(
        !await holds(copy.path),
        "it was taken out, and nothing went wrong: what is it for?",
      );
    },
  });
}
