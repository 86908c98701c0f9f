// SPDX-License-Identifier: 0BSD

/**
 * Compares `server.ts` and `client.ts` with what a person would write or take
 * instead: each gets the same load on the same machine.
 *
 *     deno task compare                                      # everything
 *     deno task compare --load bulk --programs server.ts,node --rounds 1
 *
 * `--load` is a part of the titles of rows. All take turns within a round, so that
 * whatever else the machine does hits all of them. Every reply of a server is
 * compared with the right one.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { bulk, hold, messages } from "../lib/load.ts";
import { listening, run, Script } from "../lib/parts/process.ts";
import type { Address } from "../lib/parts/tcp.ts";
import { messageOf } from "../lib/parts/command_line.ts";
import { has, memory, temporaryFolder } from "./machine.ts";
import { CLIENT, SERVER } from "./pair.ts";

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
  nc: { command: "nc -N 127.0.0.1 $PORT" },
  // -t is how long it waits for replies after the end of its input.
  socat: { command: "socat -t 60 - TCP:127.0.0.1:$PORT" },
  ncat: { command: "ncat 127.0.0.1 $PORT" },
};

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
  "100 clients: kmsg/s": async (address) =>
    (await messages(address, { connections: 100 })).messagesPerSecond / 1000,
  "2000 clients: kmsg/s": async (address) =>
    (await messages(address, { connections: 2000 })).messagesPerSecond / 1000,
  "quiet client: KB": async (_, command) => {
    await using server = await listening(start(command));
    const { address, script: { pid } } = server;
    using _one = await hold(address, { connections: 1 });
    const before = memory(pid, "VmRSS");
    using _all = await hold(address, { connections: 8000, timeout: 30 });
    return (memory(pid, "VmRSS") - before) / 8000 / 1000;
  },
};

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
    if (values.programs?.split(",").includes(name) === false) continue;
    const { build, command } = program;
    const [needed] = (build ?? command).split(" ");
    if (needed !== '"$DENO"' && !has(needed)) {
      console.error(`${name} is left out: there is no ${needed} here`);
      continue;
    }
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
    .filter(([title]) => title.includes(values.load));
  if (loads.length === 0) return;
  await using running = new AsyncDisposableStack();
  const entrants = await startAll(programs, running);
  // Of each load, of each of them, in each round; NaN where there is none.
  const figures = loads.map(() => entrants.map((): number[] => []));
  for (let round = 1; round <= Number(values.rounds); round++) {
    console.error(`round ${round} of ${values.rounds}`);
    for (const [row, [title, measure]] of loads.entries()) {
      for (const [column, entrant] of entrants.entries()) {
        const { name, command, address, without } = entrant;
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

const { values } = parseArgs({
  options: {
    load: { type: "string", default: "" },
    programs: { type: "string" },
    rounds: { type: "string", default: "3" },
  },
});

await using scratch = await temporaryFolder();
/** Holds what is compiled, and the file that clients send. */
const SCRATCH = scratch.path;
const file = `${SCRATCH}/text`;
await Deno.writeFile(file, new Uint8Array(0));
await Deno.truncate(file, 300e6); // zeros, which need no place on a disk
await Deno.readFile(file); // or the first client would wait for them
await compare(SERVERS, SERVER_LOADS);
await compare(CLIENTS, CLIENT_LOADS);
