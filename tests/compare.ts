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
import { oneLine, wholeNumber } from "../lib/parts/options.ts";
import { Script } from "../lib/parts/process.ts";
import type { Address } from "../lib/parts/tcp.ts";
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
  /** The table says how many times better the first peer is than this one. */
  isReference?: boolean;
  /** A server that has capital letters for ASCII alone. */
  isAscii?: boolean;
  /** A server that starts processes for each client: too many for thousands. */
  forks?: boolean;
}

/** An edition of `server.ts`. */
function edition(name: string, path: string): Peer {
  const options = ["--quiet", "--max-connections=10000", "--port"];
  return {
    name,
    command: (port) => [...DENO, path, ...options, port],
    isReference: true,
  };
}

const SERVERS: Peer[] = [
  edition("server.ts", SERVER),
  {
    name: "recipe",
    command: (port) => [...DENO, `${PEERS}/recipe.ts`, port],
    isReference: true,
  },
  {
    name: "node",
    command: (port) => ["node", `${PEERS}/node.mjs`, port],
    isReference: true,
  },
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
    isAscii: true,
  },
  {
    name: "socat",
    // Without stdbuf, tr keeps replies until it has 4 KiB of them.
    command: (port) => [
      ...["socat", "-d", "-d"],
      `TCP-LISTEN:${port},bind=127.0.0.1,fork,reuseaddr,nodelay,backlog=128`,
      "SYSTEM:stdbuf -o0 tr a-z A-Z",
    ],
    isAscii: true,
    forks: true,
  },
];

const CLIENTS: Peer[] = [
  {
    name: "client.ts",
    command: (port) => [...DENO, CLIENT, "--port", port],
  },
  {
    name: "nc",
    command: (port) => ["nc", "-N", "127.0.0.1", port],
    isReference: true,
  },
  {
    name: "socat",
    // -t is how long it waits for replies after the end of its input.
    command: (port) => ["socat", "-t", "60", "-", `TCP:127.0.0.1:${port}`],
  },
  {
    name: "ncat",
    command: (port) => ["ncat", "127.0.0.1", port],
  },
  {
    name: "bare", // sends one line and no more
    command: (port) => [...DENO, `${PEERS}/bare_client.ts`, port],
  },
];

/** A server that listens. */
interface Running extends Peer {
  script: Script;
  address: Address;
}

/** Starts a server that runs as long as the stack is in scope. */
async function start(
  server: Peer,
  stack: AsyncDisposableStack,
): Promise<Running> {
  const script = stack.use(Script.command(server.command("0")));
  const pattern = /listening on .*:([0-9]+)$/m;
  const [, port] = server.name === "socat"
    ? await script.stderrMatch(pattern)
    : await script.stdoutMatch(pattern);
  const address = { hostname: "127.0.0.1", port: Number(port) };
  return { ...server, script, address };
}

// ---------------------------------------------------------------------- loads

interface Load<P> {
  /** A word for `--only`. */
  group: string;
  /** What is measured, and in which unit. */
  title: string;
  /** A larger figure is a better one. */
  moreIsBetter?: boolean;
  suits?: (peer: P) => boolean;
  measure: (peer: P) => Promise<number>;
}

const SERVER_LOADS: Load<Running>[] = [
  bulkLoad("bulk, ASCII: MB/s"),
  bulkLoad("bulk, Italian: MB/s", { text: "italian" }),
  bulkLoad("bulk, Greek: MB/s", { text: "greek" }),
  bulkLoad("bulk, 8 clients: MB/s", { clients: 8 }),
  {
    group: "bulk",
    title: "CPU for bulk: s/GB",
    suits: ({ forks }) => !forks,
    measure: async ({ address, script }) => {
      const before = cpuSeconds(script.pid);
      const { megabytes } = await bulk(address);
      return (cpuSeconds(script.pid) - before) / megabytes * 1000;
    },
  },
  {
    group: "messages",
    title: "one message: µs",
    measure: async ({ address }) =>
      (await messages(address, { connections: 1 })).median,
  },
  messagesLoad(100),
  messagesLoad(2000),
  {
    group: "memory",
    title: "quiet client: KB",
    suits: ({ forks }) => !forks,
    measure: async (server) => {
      await using stack = new AsyncDisposableStack();
      const { address, script } = await start(server, stack);
      using _one = await hold(address, { connections: 1 });
      const before = memory(script.pid, "VmRSS");
      const connections = 8000;
      using _all = await hold(address, { connections, timeout: 30 });
      return (memory(script.pid, "VmRSS") - before) / connections / 1000;
    },
  },
  {
    group: "memory",
    title: "after 500 MB: MB",
    suits: ({ forks }) => !forks,
    measure: async (server) => {
      await using stack = new AsyncDisposableStack();
      const { address, script } = await start(server, stack);
      await bulk(address, { megabytes: 500 });
      return memory(script.pid, "VmRSS") / 1e6;
    },
  },
];

function bulkLoad(
  title: string,
  options: { text?: string; clients?: number } = {},
): Load<Running> {
  return {
    group: "bulk",
    title,
    moreIsBetter: true,
    suits: ({ isAscii }) => options.text === undefined || !isAscii,
    measure: async ({ address }) =>
      (await bulk(address, options)).megabytesPerSecond,
  };
}

function messagesLoad(connections: number): Load<Running> {
  return {
    group: "messages",
    title: `${connections} clients: kmsg/s`,
    moreIsBetter: true,
    suits: ({ forks }) => connections <= 100 || !forks,
    measure: async ({ address }) =>
      (await messages(address, { connections })).messagesPerSecond / 1000,
  };
}

/** The loads for clients, all of which talk to one server. */
function clientLoads(port: string): Load<Peer>[] {
  const file = `${SCRATCH}/text`;
  const text = lines("ascii", 1e6);
  for (let megabytes = 0; megabytes < 300; megabytes++) {
    Deno.writeTextFileSync(file, text, { append: true });
  }
  return [
    {
      group: "client",
      title: "300 MB from a file: s",
      suits: ({ name }) => name !== "bare",
      measure: async ({ command }) => {
        const shell = `exec "$@" <${file} >/dev/null`;
        const start = performance.now();
        const { code } = await new Deno.Command("sh", {
          args: ["-c", shell, "sh", ...command(port)],
        }).output();
        if (code !== 0) throw new Error(`exit code ${code}`);
        return (performance.now() - start) / 1000;
      },
    },
    {
      group: "client",
      title: "first reply: ms",
      measure: async ({ command }) => {
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
    },
  ];
}

// -------------------------------------------------------------------- measure

/** The figures of all rounds by load and peer; NaN where a round failed. */
type Results = Map<string, Map<string, number[]>>;

/** Why something was not measured. */
const notes = new Set<string>();

/** Gives each load to all peers in turn, in each round. */
async function compare<P extends Peer>(
  loads: Load<P>[],
  peers: P[],
  rounds: number,
): Promise<Results> {
  const results: Results = new Map();
  for (let round = 1; round <= rounds; round++) {
    for (const { title, suits, measure } of loads) {
      const row = results.get(title) ?? new Map<string, number[]>();
      results.set(title, row);
      for (const peer of peers) {
        if (suits && !suits(peer)) continue;
        say(`round ${round} of ${rounds}: ${title}, ${peer.name}`);
        const value = await measure(peer).catch((error) => {
          notes.add(`${title}, ${peer.name}: ${oneLine(error)}`);
          return NaN;
        });
        row.set(peer.name, [...row.get(peer.name) ?? [], value]);
      }
    }
  }
  return results;
}

/** Starts all servers and warms them up, so that what is compiled is compiled. */
async function startAll(
  servers: Peer[],
  stack: AsyncDisposableStack,
): Promise<Running[]> {
  const running = [];
  for (const server of servers) {
    say(`warm-up: ${server.name}`);
    try {
      const one = await start(server, stack);
      await bulk(one.address, { megabytes: 50 });
      await messages(one.address, { seconds: 0.5 });
      running.push(one);
    } catch (error) {
      notes.add(`${server.name} is left out: ${oneLine(error)}`);
    }
  }
  return running;
}

/** The peers that this machine can run, compiled. */
function present(peers: Peer[]): Peer[] {
  return peers.filter(({ name, build, command }) => {
    const [program, ...args] = build ?? command("0");
    if (program !== Deno.execPath() && !has(program!)) {
      notes.add(`${name} is left out: there is no ${program} here`);
      return false;
    }
    if (build && !new Deno.Command(program!, { args }).outputSync().success) {
      notes.add(`${name} is left out: ${build.join(" ")} failed`);
      return false;
    }
    return true;
  });
}

// --------------------------------------------------------------------- output

/** NaN if all rounds failed. */
function median(values: number[]): number {
  const sorted = values.filter((value) => !Number.isNaN(value))
    .sort((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  return (sorted[Math.floor(middle)]! + sorted[Math.ceil(middle)]!) / 2;
}

/** Three digits, or more where the number has more before the point. */
function number(value: number): string {
  if (Number.isNaN(value)) return "-";
  return value >= 100 ? value.toFixed() : value.toPrecision(3);
}

/**
 * Medians as a table in Markdown. In brackets behind a reference: how many times
 * better the first peer is, the median of the ratios within each round.
 */
function table(
  loads: { title: string; moreIsBetter?: boolean }[],
  peers: Peer[],
  results: Results,
): string {
  const ours = peers[0]!.name;
  const rows = loads.map(({ title, moreIsBetter }) => {
    const row = results.get(title)!;
    const cells = peers.map(({ name, isReference }) => {
      const values = row.get(name);
      if (values === undefined) return "-";
      const ratios = values.map((value, round) => {
        const ratio = row.get(ours)![round]! / value;
        return moreIsBetter ? ratio : 1 / ratio;
      });
      const better = isReference && name !== ours
        ? ` (${median(ratios).toFixed(2)})`
        : "";
      return number(median(values)) + better;
    });
    return [title, ...cells];
  });
  const head = ["median", ...peers.map(({ name }) => name)];
  const rule = ["---", ...peers.map(() => "---:")];
  return [head, rule, ...rows].map((cells) => `| ${cells.join(" | ")} |\n`)
    .join("");
}

/** Bars of text, the longest 50 characters. */
function chart(title: string, row: Map<string, number[]>): string {
  const bars = [...row].map(([name, values]) => [name, median(values)] as const)
    .filter(([, value]) => !Number.isNaN(value));
  const most = Math.max(...bars.map(([, value]) => value));
  const width = Math.max(...bars.map(([name]) => name.length));
  return `${title}\n` + bars.map(([name, value]) => {
    const bar = "█".repeat(Math.round(50 * value / most));
    return `  ${name.padEnd(width)} ${bar} ${number(value)}\n`;
  }).join("");
}

/** What is measured now: one line on a terminal, a line each elsewhere. */
function say(what: string): void {
  const line = Deno.stderr.isTerminal() ? `\r\x1b[K${what}` : `${what}\n`;
  Deno.stderr.writeSync(new TextEncoder().encode(line));
}

// -------------------------------------------------------------------- program

const GROUPS = ["bulk", "messages", "memory", "client"];
const CHARTS = ["bulk, Italian: MB/s", "100 clients: kmsg/s"];

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

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      only: { type: "string", default: "" },
      server: { type: "string", multiple: true, default: [] },
      rounds: { type: "string", default: "3" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return console.log(USAGE);
  const rounds = wholeNumber("--rounds", values.rounds, 1, 99);
  const editions = values.server.map((path) => edition(path, path));
  const servers = SERVERS.toSpliced(1, 0, ...editions);

  const only = values.only === "" ? [] : values.only.split(",");
  const names = [...servers, ...CLIENTS].map(({ name }) => name);
  const unknown = only.find((name) => ![...GROUPS, ...names].includes(name));
  if (unknown !== undefined) throw new Error(`--only does not know ${unknown}`);
  const isNamed = (known: string[], name: string) =>
    only.includes(name) || !known.some((other) => only.includes(other));
  const ours = ["server.ts", ...values.server, "client.ts"];
  const isChosen = ({ name }: Peer) =>
    ours.includes(name) || isNamed(names, name);
  const isMeasured = ({ group }: { group: string }) => isNamed(GROUPS, group);

  await using stack = new AsyncDisposableStack();
  let tables = "";
  let charts = "";
  const loads = SERVER_LOADS.filter(isMeasured);
  if (loads.length > 0) {
    const found = present(servers.filter(isChosen));
    const running = await startAll(found, stack);
    const results = await compare(loads, running, rounds);
    tables = table(loads, running, results) + "\n";
    charts = CHARTS.filter((title) => results.has(title))
      .map((title) => chart(title, results.get(title)!)).join("\n");
  }
  if (isNamed(GROUPS, "client")) {
    const clients = present(CLIENTS.filter(isChosen));
    const server = await start(SERVERS[0]!, stack);
    const loads = clientLoads(`${server.address.port}`);
    const results = await compare(loads, clients, rounds);
    tables += table(loads, clients, results) + "\n";
  }
  say("");

  console.log(
    `${cpus()[0]!.model}, ${cpus().length} cores, ${Deno.build.os} ` +
      `${Deno.osRelease()}, Deno ${Deno.version.deno}\n` +
      `Medians, rounds: ${rounds}. In brackets: how many times better the ` +
      `first column is.\n\n${tables}${charts}`,
  );
  for (const note of notes) console.log(note);
}

const tidy = () => Deno.removeSync(SCRATCH, { recursive: true });
Deno.addSignalListener("SIGINT", () => {
  tidy();
  Deno.exit(130);
});
try {
  await main();
} catch (error) {
  console.error(`compare: ${oneLine(error)} (--help shows the options)`);
  Deno.exitCode = 2;
}
tidy();
Deno.exit(); // the signal's listener would keep the program waiting
