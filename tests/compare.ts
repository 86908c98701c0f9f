// SPDX-License-Identifier: 0BSD

/**
 * Compares `server.ts` and `client.ts` with what a person would write or take
 * instead: each gets the same load on the same machine.
 *
 *     deno task compare                                      # everything
 *     deno task compare --load bulk --programs server.ts,node --rounds 1
 *
 * All take turns within a round, so that whatever else the machine does hits all of
 * them. Every reply of a server is compared with the right one.
 */

import { Buffer } from "node:buffer";
import { setTimeout as pause } from "node:timers/promises";
import { parseArgs } from "node:util";
import { bulk, Connections, messages } from "../lib/load.ts";
import {
  help,
  messageOf,
  readOptions,
  wholeNumber,
} from "../lib/parts/command_line.ts";
import { listening, run, Script } from "../lib/parts/process.ts";
import { type Address, readReply, writeAll } from "../lib/parts/tcp.ts";
import { lines } from "../lib/parts/texts.ts";
import { has, memory, temporaryFolder } from "./machine.ts";
import { OTHER_CLIENTS } from "./other_clients.ts";
import { CLIENT, SERVER } from "./pair.ts";
import { progress } from "./progress.ts";

// ------------------------------------------------------------------- programs

/** A server or a client. Its commands are for the shell, in the folder `peers`. */
interface Program {
  /** Starts it. A client sends its standard input and prints the reply. */
  command: string;
  /** Compiles it. */
  build?: string;
  /** Loads that it is not given. */
  without?: RegExp;
}

/** What starts a script: its name and arguments follow. */
const DENO = '"$DENO" run --allow-net';

/** Ours is the first. */
const SERVERS: Record<string, Program> = {
  "server.ts": {
    command: `${DENO} "$SERVER" --max-connections 10000 --port $PORT`,
  },
  recipe: { command: `${DENO} recipe.ts $PORT` },
  node: { command: "node node.mjs $PORT" },
  python: { command: "python3 asyncio.py $PORT" },
  go: {
    build: 'go build -o "$SCRATCH/go" upper.go',
    command: '"$SCRATCH/go" $PORT',
  },
  c: {
    build: 'cc -O2 -pthread -o "$SCRATCH/c" threads.c',
    command: '"$SCRATCH/c" $PORT',
  },
  socat: {
    // Without stdbuf, tr keeps replies until it has 4 KiB of them.
    command: "socat -d -d -lf /dev/stdout " +
      "TCP-LISTEN:$PORT,bind=127.0.0.1,fork,reuseaddr,nodelay,backlog=128 " +
      "'SYSTEM:stdbuf -o0 tr a-z A-Z'",
    without: /2000|quiet/, // it starts processes for each client
  },
};

/** Ours is the first. */
const CLIENTS: Record<string, Program> = {
  "client.ts": { command: `${DENO} "$CLIENT" --port $PORT` },
};
for (const name of ["nc", "socat", "ncat"]) {
  CLIENTS[name] = { command: OTHER_CLIENTS[name]("$PORT").join(" ") };
}

function start(command: string, port = 0): Script {
  return Script.command(["sh", "-c", `exec ${command}`], {
    cwd: `${import.meta.dirname}/peers`,
    env: { PORT: `${port}`, DENO: Deno.execPath(), SERVER, CLIENT, SCRATCH },
  });
}

// ---------------------------------------------------------------------- loads

/** Measures a server that listens at the address, or a client that talks to it. */
type Measure = (address: Address, command: string) => Promise<number>;

/** The rows. "/s" at the end of the unit means that more is better. */
const SERVER_LOADS: Record<string, Measure> = {
  "bulk, ASCII: MB/s": (address) => bulk(address, { text: "ascii" }),
  "bulk, Italian: MB/s": (address) => bulk(address, { text: "italian" }),
  "bulk, Greek: MB/s": (address) => bulk(address, { text: "greek" }),
  "bulk, 8 clients: MB/s": (address) => bulk(address, { clients: 8 }),
  "one message: µs": async (address) =>
    (await messages(address, { connections: 1 })).median,
  "first message of 200 B: µs": firstMessage(200),
  "first message of 3 KB: µs": firstMessage(3000),
  "100 clients: kmsg/s": async (address) =>
    (await messages(address, { connections: 100 })).messagesPerSecond / 1000,
  "2000 clients: kmsg/s": async (address) =>
    (await messages(address, { connections: 2000 })).messagesPerSecond / 1000,
  "quiet client: KB": async (_, command) => {
    await using server = await listening(start(command));
    const { address, script: { pid } } = server;
    using connections = new Connections(address, 30);
    await connections.open(1);
    const before = memory(pid, "VmRSS");
    await connections.open(8000);
    return (memory(pid, "VmRSS") - before) / 8000 / 1000;
  },
};

/** The reply to the first message of a new client, while the server has no other. */
function firstMessage(size: number): Measure {
  const text = lines("ascii", size);
  const reply = Buffer.from(text.toUpperCase());
  return async (address) => {
    const times = [];
    while (times.length < 9) {
      await pause(150); // nothing goes on: the server is idle
      using socket = await Deno.connect(address);
      socket.setNoDelay();
      const begin = performance.now();
      await writeAll(socket, Buffer.from(text));
      await readReply(socket, reply, new Uint8Array(reply.length));
      times.push(1000 * (performance.now() - begin));
    }
    return median(times);
  };
}

const CLIENT_LOADS: Record<string, Measure> = {
  "300 MB from a file: s": async ({ port }, command) => {
    const begin = performance.now();
    const client = start(`${command} <"$SCRATCH/text" >/dev/null`, port);
    const { code, stderr } = await run(client);
    if (code !== 0) throw new Error(`exit code ${code}: ${stderr}`);
    return (performance.now() - begin) / 1000;
  },
  "first reply: ms": async ({ port }, command) => {
    const times = [];
    while (times.length < 5) {
      const begin = performance.now();
      await using client = start(command, port);
      await client.write("hello\n");
      await client.stdoutMatch(/HELLO\n/);
      times.push(performance.now() - begin);
    }
    return median(times);
  },
};

// -------------------------------------------------------------------- measure

/**
 * Starts the servers, or for each client a server.ts, and warms them up: then what
 * is compiled is compiled. Programs that this machine has not are left out.
 */
async function startAll(
  programs: Record<string, Program>,
  running: AsyncDisposableStack,
): Promise<(Program & { name: string; address: Address })[]> {
  const entrants = [];
  for (const [name, program] of Object.entries(programs)) {
    if (!options.programs.includes(name)) continue;
    const { build, command } = program;
    const [needed] = (build ?? command).split(" ");
    if (needed !== '"$DENO"' && !has(needed)) {
      console.error(`${name} is left out: there is no ${needed} here`);
      continue;
    }
    progress(`${name} starts`);
    if (build) await run(start(build));
    const server = programs === SERVERS ? program : SERVERS["server.ts"];
    const { address } = running.use(await listening(start(server.command)));
    await bulk(address, { megabytes: 50 });
    await messages(address, { seconds: 0.5 });
    entrants.push({ name, ...program, address });
  }
  return entrants;
}

/** Gives each load to all in turn, in each round, and prints a table in Markdown. */
async function compare(
  programs: Record<string, Program>,
  allLoads: Record<string, Measure>,
): Promise<void> {
  const loads = Object.entries(allLoads)
    .filter(([title]) => title.includes(options.load));
  if (loads.length === 0) return;
  await using running = new AsyncDisposableStack();
  const entrants = await startAll(programs, running);
  if (entrants.length === 0) return;
  let left = options.rounds * loads.length * entrants.length;
  // Of each load, of each of them, in each round; NaN where there is none.
  const figures = loads.map(() => entrants.map((): number[] => []));
  for (let round = 1; round <= options.rounds; round++) {
    for (const [row, [title, measure]] of loads.entries()) {
      for (const [column, entrant] of entrants.entries()) {
        const { name, command, address, without } = entrant;
        progress(`${title}, ${name}; measurements left: ${left--}`);
        const figure = without?.test(title)
          ? NaN
          : await measure(address, command).catch((error) => {
            console.error(`${title}, ${name}: ${messageOf(error)}`);
            return NaN;
          });
        figures[row][column].push(figure);
      }
    }
  }
  progress("");
  const table = [
    ["median", ...entrants.map(({ name }) => name)],
    ["---", ...entrants.map(() => "---:")],
    ...loads.map(([title], row) => [title, ...cells(title, figures[row])]),
  ];
  for (const cells of table) console.log(`| ${cells.join(" | ")} |`);
  console.log();
}

/** The medians. In brackets: how many times better the first program is. */
function cells(title: string, figures: number[][]): string[] {
  const [ours, ...others] = figures.map(median);
  return [
    number(ours),
    ...others.map((other) => {
      const times = title.endsWith("/s") ? ours / other : other / ours;
      return Number.isNaN(other) ? "-" : `${number(other)} (${number(times)})`;
    }),
  ];
}

/** NaN if all rounds failed. */
function median(figures: number[]): number {
  const sorted = figures.filter((figure) => !Number.isNaN(figure))
    .sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? NaN;
}

/** Three digits, or more where the number has more before the point. */
function number(figure: number): string {
  return figure >= 100 ? figure.toFixed() : figure.toPrecision(3);
}

// -------------------------------------------------------------------- program

const PROGRAMS = Object.keys({ ...SERVERS, ...CLIENTS });
const TITLES = Object.keys({ ...SERVER_LOADS, ...CLIENT_LOADS });

const USAGE =
  `Compares server.ts and client.ts with what one would take instead.

Usage: deno task compare [options]

  --load TEXT      only the rows that have this text in their title
  --programs LIST  only these (commas, no spaces)
  --rounds N       how often each load is given (default 3); medians are shown
  -h, --help       show this

Programs: ${PROGRAMS.join(", ")}
Titles:   ${TITLES.join("\n          ")}`;

/** Reads the options, or ends the process after help. */
function parse() {
  const { values } = parseArgs({
    options: {
      load: { type: "string", default: "" },
      programs: { type: "string", default: `${PROGRAMS}` },
      rounds: { type: "string", default: "3" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) help(USAGE);
  const { load } = values;
  if (!TITLES.some((title) => title.includes(load))) {
    throw new Error(`--load ${JSON.stringify(load)} is in no title`);
  }
  const programs = values.programs.split(",");
  const unknown = programs.find((name) => !PROGRAMS.includes(name));
  if (unknown !== undefined) {
    throw new Error(`--programs ${JSON.stringify(unknown)} is not known`);
  }
  return {
    load,
    programs,
    rounds: wholeNumber("--rounds", values.rounds, 1, 1000),
  };
}

const options = readOptions("compare", parse);
await using scratch = await temporaryFolder();
/** Holds what is compiled, and the file that clients send. */
const SCRATCH = scratch.path;
const file = `${SCRATCH}/text`;
await Deno.writeFile(file, new Uint8Array(0));
await Deno.truncate(file, 300e6); // zeros, which need no place on a disk
await Deno.readFile(file); // or the first client would wait for them
await compare(SERVERS, SERVER_LOADS);
await compare(CLIENTS, CLIENT_LOADS);
