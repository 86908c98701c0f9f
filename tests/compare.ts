// SPDX-License-Identifier: 0BSD

/**
 * Compares `server.ts` and `client.ts` with what a person would write or take
 * instead: each gets the same load on the same machine.
 *
 *     deno task compare                              # everything, ten minutes
 *     deno task compare --only bulk,node --rounds 1
 *     deno task compare --server old/server.ts --only messages,server.ts
 *
 * All take turns within a round, so that whatever else the machine does hits all
 * of them. Every reply to a bulk load or a message is compared with the right one.
 *
 * @module
 */

import { cpus } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { bulk, hold, messages } from "../lib/load.ts";
import { readOptions, wholeNumber } from "../lib/parts/options.ts";
import { Script } from "../lib/parts/process.ts";
import type { Address } from "../lib/parts/tcp.ts";
import { messageOf, progress } from "../lib/parts/terminal.ts";
import { lines } from "../lib/parts/texts.ts";
import { cpuSeconds, has, memory } from "./machine.ts";
import { CLIENT, SERVER } from "./pair.ts";

/** Holds the peers that are compiled, and the file that clients send. */
const SCRATCH = Deno.makeTempDirSync({ prefix: "uppercase-compare-" });
const PEERS = join(import.meta.dirname!, "peers");
const DENO = [Deno.execPath(), "run", "--allow-net"];

// ---------------------------------------------------------------------- peers

/** A server or a client, ours or another. */
interface Peer {
  name: string;
  /** What starts it. A client sends standard input and prints the reply. */
  command: (port: string) => string[];
  /** What compiles it. */
  build?: string[];
}

/** An edition of `server.ts`. */
function edition(name: string, path: string): Peer {
  const options = ["--max-connections=10000", "--port"];
  return { name, command: (port) => [...DENO, path, ...options, port] };
}

const SERVERS: Peer[] = [
  edition("server.ts", SERVER),
  { name: "recipe", command: (port) => [...DENO, `${PEERS}/recipe.ts`, port] },
  { name: "node", command: (port) => ["node", `${PEERS}/node.mjs`, port] },
  {
    name: "python",
    command: (port) => ["python3", `${PEERS}/asyncio.py`, port],
  },
  {
    name: "go",
    build: ["go", "build", "-o", `${SCRATCH}/go`, `${PEERS}/upper.go`],
    command: (port) => [`${SCRATCH}/go`, port],
  },
  {
    name: "c",
    // deno-fmt-ignore
    build: ["cc", "-O2", "-pthread", "-o", `${SCRATCH}/c`, `${PEERS}/threads.c`],
    command: (port) => [`${SCRATCH}/c`, port],
  },
  {
    name: "socat",
    // Without stdbuf, tr keeps replies until it has 4 KiB of them.
    command: (port) => [
      ...["socat", "-d", "-d", "-lf", "/dev/stdout"],
      `TCP-LISTEN:${port},bind=127.0.0.1,fork,reuseaddr,nodelay,backlog=128`,
      "SYSTEM:stdbuf -o0 tr a-z A-Z",
    ],
  },
];

const CLIENTS: Peer[] = [
  { name: "client.ts", command: (port) => [...DENO, CLIENT, "--port", port] },
  { name: "nc", command: (port) => ["nc", "-N", "127.0.0.1", port] },
  {
    name: "socat",
    // -t is how long it waits for replies after the end of its input.
    command: (port) => ["socat", "-t", "60", "-", `TCP:127.0.0.1:${port}`],
  },
  { name: "ncat", command: (port) => ["ncat", "127.0.0.1", port] },
  {
    name: "bare",
    command: (port) => [...DENO, `${PEERS}/bare_client.ts`, port],
  },
];

/** A server that listens. */
interface Running extends Peer, AsyncDisposable {
  pid: number;
  address: Address;
}

async function start(server: Peer): Promise<Running> {
  const script = Script.command(server.command("0"));
  const [, port] = await script.stdoutMatch(/listening on .*:([0-9]+)$/m);
  return {
    ...server,
    pid: script.pid,
    address: { hostname: "127.0.0.1", port: Number(port) },
    [Symbol.asyncDispose]: () => script[Symbol.asyncDispose](),
  };
}

// ---------------------------------------------------------------------- loads

/** Measures one peer. */
type Measure<P> = (peer: P) => Promise<number>;

/**
 * What is measured, and in which unit: "/s" at the end means that more is better.
 * The groups are words for `--only`.
 */
const SERVER_LOADS: Record<string, Record<string, Measure<Running>>> = {
  bulk: {
    "bulk, ASCII: MB/s": bulkLoad(),
    "bulk, Italian: MB/s": bulkLoad({ text: "italian" }),
    "bulk, Greek: MB/s": bulkLoad({ text: "greek" }),
    "bulk, 8 clients: MB/s": bulkLoad({ clients: 8 }),
    "CPU for bulk: s/GB": async ({ address, pid }) => {
      const before = cpuSeconds(pid);
      const { megabytes } = await bulk(address);
      return (cpuSeconds(pid) - before) / megabytes * 1000;
    },
  },
  messages: {
    "one message: µs": async ({ address }) =>
      (await messages(address, { connections: 1 })).median,
    "100 clients: kmsg/s": messagesLoad(100),
    "2000 clients: kmsg/s": messagesLoad(2000),
  },
  memory: {
    "quiet client: KB": async (server) => {
      await using fresh = await start(server);
      using _one = await hold(fresh.address, { connections: 1 });
      const before = memory(fresh.pid, "VmRSS");
      const connections = 8000;
      using _all = await hold(fresh.address, { connections, timeout: 30 });
      return (memory(fresh.pid, "VmRSS") - before) / connections / 1000;
    },
    "after 500 MB: MB": async (server) => {
      await using fresh = await start(server);
      await bulk(fresh.address, { megabytes: 500 });
      return memory(fresh.pid, "VmRSS") / 1e6;
    },
  },
};

/** Loads that a peer is not given. */
const NOT_FOR: Record<string, string[]> = {
  // It starts processes for each client: too many, and they do its work.
  socat: [
    "CPU for bulk: s/GB",
    "2000 clients: kmsg/s",
    ...Object.keys(SERVER_LOADS.memory),
  ],
  bare: ["300 MB from a file: s"], // it sends one line and no more
};

function bulkLoad(
  options: { text?: string; clients?: number } = {},
): Measure<Running> {
  return async ({ address }) =>
    (await bulk(address, options)).megabytesPerSecond;
}

function messagesLoad(connections: number): Measure<Running> {
  return async ({ address }) =>
    (await messages(address, { connections })).messagesPerSecond / 1000;
}

/** The loads for clients, all of which talk to one server. */
function clientLoads(port: string): Record<string, Measure<Peer>> {
  const file = `${SCRATCH}/text`;
  const text = lines("ascii", 1e6);
  for (let megabytes = 0; megabytes < 300; megabytes++) {
    Deno.writeTextFileSync(file, text, { append: true });
  }
  return {
    "300 MB from a file: s": async ({ command }) => {
      const shell = `exec "$@" <${file} >/dev/null`;
      const start = performance.now();
      const { code } = await new Deno.Command("sh", {
        args: ["-c", shell, "sh", ...command(port)],
      }).output();
      if (code !== 0) throw new Error(`exit code ${code}`);
      return (performance.now() - start) / 1000;
    },
    "first reply: ms": async ({ command }) => {
      const times = [];
      for (let count = 0; count < 5; count++) {
        const start = performance.now();
        await using client = Script.command(command(port));
        await client.write("hello\n");
        await client.stdoutMatch(/HELLO\n/);
        times.push(performance.now() - start);
      }
      return median(times);
    },
  };
}

// -------------------------------------------------------------------- measure

/** Says why something is not measured. */
function note(line: string): void {
  progress("");
  console.error(line);
}

/** Gives each load to all peers in turn, in each round; a table in Markdown. */
async function compare<P extends Peer>(
  loads: Record<string, Measure<P>>,
  peers: P[],
  rounds: number,
): Promise<string> {
  const rows = Object.entries(loads).map(([title, measure]) => ({
    title,
    measure,
    // Of all rounds, for each peer; NaN where there is none.
    figures: peers.map((): number[] => []),
  }));
  for (let round = 1; round <= rounds; round++) {
    for (const { title, measure, figures } of rows) {
      for (const [at, peer] of peers.entries()) {
        progress(`round ${round} of ${rounds}: ${title}, ${peer.name}`);
        const isAsked = !NOT_FOR[peer.name]?.includes(title);
        const figure = isAsked
          ? await measure(peer).catch((error) => {
            note(`${title}, ${peer.name}: ${messageOf(error)}`);
            return NaN;
          })
          : NaN;
        figures[at].push(figure);
      }
    }
  }
  return [
    ["median", ...peers.map(({ name }) => name)],
    ["---", ...peers.map(() => "---:")],
    ...rows.map(({ title, figures }) => [title, ...cells(title, figures)]),
  ].map((cells) => `| ${cells.join(" | ")} |\n`).join("") + "\n";
}

/** Starts a server and warms it up, so that what is compiled is compiled. */
async function startWarm(server: Peer): Promise<Running> {
  progress(`warm-up: ${server.name}`);
  const running = await start(server);
  await bulk(running.address, { megabytes: 50 });
  await messages(running.address, { seconds: 0.5 });
  return running;
}

/** The peers that this machine can run, compiled. */
function present(peers: Peer[]): Peer[] {
  return peers.filter(({ name, build, command }) => {
    const [program, ...args] = build ?? command("0");
    if (program !== Deno.execPath() && !has(program!)) {
      note(`${name} is left out: there is no ${program} here`);
      return false;
    }
    if (build) new Deno.Command(program!, { args }).outputSync();
    return true;
  });
}

// --------------------------------------------------------------------- output

/** NaN if all rounds failed. */
function median(values: number[]): number {
  const sorted = values.filter((value) => !Number.isNaN(value))
    .sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? NaN;
}

/** Three digits, or more where the number has more before the point. */
function number(value: number): string {
  if (Number.isNaN(value)) return "-";
  return value >= 100 ? value.toFixed() : value.toPrecision(3);
}

/**
 * The medians. In brackets: how many times better the first peer is, the median
 * of the ratios within each round.
 */
function cells(title: string, [ours, ...others]: number[][]): string[] {
  const ratio = (one: number, other: number) =>
    title.endsWith("/s") ? one / other : other / one;
  return [
    number(median(ours)),
    ...others.map((values) => {
      if (values.every(Number.isNaN)) return "-";
      const ratios = values.map((value, round) => ratio(ours[round], value));
      return `${number(median(values))} (${number(median(ratios))})`;
    }),
  ];
}

// -------------------------------------------------------------------- program

const GROUPS = [...Object.keys(SERVER_LOADS), "client"];

const USAGE = `Compares server.ts and client.ts with their peers.

Usage: deno task compare [options]

  --only LIST    of ${GROUPS.join(", ")} (what is measured), and
                 of the peers' names (beside whom); default all
  --server FILE  another edition of server.ts; may be given more than once
  --rounds N     default 3
  -h, --help     show this

A LIST has commas and no spaces. Servers: ${
  SERVERS.map(({ name }) => name).join(", ")
}.
Clients: ${CLIENTS.map(({ name }) => name).join(", ")}.`;

/** The known words that are named, or all of them if none is. */
function chosen(known: string[], named: string[]): string[] {
  const some = known.filter((word) => named.includes(word));
  return some.length > 0 ? some : known;
}

/** Reads the options, or ends the process after help. */
function parse() {
  const { values } = parseArgs({
    options: {
      only: { type: "string", default: "" },
      server: { type: "string", multiple: true, default: [] },
      rounds: { type: "string", default: "3" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    Deno.exit(0);
  }
  const editions = values.server.map((path) => edition(path, path));
  const servers = SERVERS.toSpliced(1, 0, ...editions);
  const names = [...servers, ...CLIENTS].map(({ name }) => name);
  const named = values.only.split(",").filter((word) => word !== "");
  const unknown = named.find((word) => ![...GROUPS, ...names].includes(word));
  if (unknown !== undefined) throw new Error(`--only does not know ${unknown}`);
  const ours = ["server.ts", ...values.server, "client.ts"];
  const compared = [...chosen(names, named), ...ours];
  const isCompared = ({ name }: Peer) => compared.includes(name);
  return {
    groups: chosen(GROUPS, named),
    servers: servers.filter(isCompared),
    clients: CLIENTS.filter(isCompared),
    rounds: wholeNumber("--rounds", values.rounds, 1, 99),
  };
}

addEventListener("unload", () => Deno.removeSync(SCRATCH, { recursive: true }));
Deno.addSignalListener("SIGINT", () => Deno.exit(130));
const { groups, servers, clients, rounds } = readOptions("compare", parse);
await using stack = new AsyncDisposableStack();
let tables = "";
const loads = Object.assign({}, ...groups.map((group) => SERVER_LOADS[group]));
if (Object.keys(loads).length > 0) {
  const running = [];
  for (const server of present(servers)) {
    running.push(stack.use(await startWarm(server)));
  }
  tables += await compare(loads, running, rounds);
}
if (groups.includes("client")) {
  const { address } = stack.use(await start(SERVERS[0]));
  const loads = clientLoads(`${address.port}`);
  tables += await compare(loads, present(clients), rounds);
}
progress("");
console.log(
  `${cpus()[0].model}, ${cpus().length} cores, ${Deno.build.os} ` +
    `${Deno.osRelease()}, Deno ${Deno.version.deno}\n` +
    `Medians, rounds: ${rounds}. In brackets: how many times better the ` +
    `first column is.\n\n${tables}`,
);
await stack.disposeAsync();
Deno.exit(); // the signal's listener would keep the program waiting
