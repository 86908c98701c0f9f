// SPDX-License-Identifier: 0BSD

/**
 * Measures `server.ts` beside what a person would pick instead, and `client.ts`
 * beside netcat and its kin, each under the same load on the same machine.
 *
 *     deno task bench                            # everything, ten minutes
 *     deno task bench --only bulk,node --rounds 1
 *
 * All take turns within a round, so that whatever else the machine does hits
 * them alike. What is printed are medians over the rounds.
 *
 * @module
 */

import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { bulk, hold, messages } from "../lib/load.ts";
import { listening, Script } from "../lib/parts/process.ts";
import type { Address } from "../lib/parts/tcp.ts";
import { lines, SENTENCES } from "../lib/parts/texts.ts";

const ROOT = join(import.meta.dirname!, "..");
const PEERS = join(ROOT, "tests", "peers");
/** What is compiled, and what is sent from a file. */
const SCRATCH = join(tmpdir(), `uppercase-bench-${Deno.pid}`);

// ------------------------------------------------------------ who is measured

interface Server {
  name: string;
  /** The programs it takes; the first one missing is named. */
  needs: string[];
  /** What must run once, before it can start. */
  build?: string[];
  command: string[];
  /** Knows no text but ASCII. */
  ascii?: boolean;
  /** Starts processes for each client: too many for thousands of them. */
  forks?: boolean;
}

const SERVER = "server.ts";
const CLIENT = "client.ts";
/** The two streams of uppercase_bench.ts. */
const STREAM = "UppercaseStream";
const PLAIN = "PlainStream";

const SERVERS: Server[] = [
  {
    name: SERVER,
    needs: [],
    // deno-fmt-ignore
    command: [
      Deno.execPath(), "run", "--allow-net", `${ROOT}/server.ts`,
      "--port=0", "--quiet", "--max-connections=10000",
    ],
  },
  {
    name: "recipe",
    needs: [],
    command: [Deno.execPath(), "run", "--allow-net", `${PEERS}/recipe.ts`, "0"],
  },
  {
    name: "node",
    needs: ["node"],
    command: ["node", `${PEERS}/node.mjs`, "0"],
  },
  {
    name: "python",
    needs: ["python3"],
    command: ["python3", `${PEERS}/asyncio.py`, "0"],
  },
  {
    name: "go",
    needs: ["go"],
    build: ["go", "build", "-o", `${SCRATCH}/upper`, `${PEERS}/upper.go`],
    command: [`${SCRATCH}/upper`, "0"],
  },
  {
    name: "c",
    needs: ["cc"],
    // deno-fmt-ignore
    build: ["cc", "-O2", "-pthread", "-o", `${SCRATCH}/threads`, `${PEERS}/threads.c`],
    command: [`${SCRATCH}/threads`, "0"],
    ascii: true,
  },
  {
    name: "socat",
    needs: ["socat", "stdbuf", "tr"],
    // Without stdbuf, tr keeps replies until it has 4 KiB of them.
    // deno-fmt-ignore
    command: [
      "socat", "-d", "-d",
      "TCP-LISTEN:0,bind=127.0.0.1,fork,reuseaddr,nodelay,backlog=128",
      "SYSTEM:stdbuf -o0 tr a-z A-Z",
    ],
    ascii: true,
    forks: true,
  },
];

interface Client {
  name: string;
  /** The program's own name, where it is not part of Deno. */
  needs: string[];
  /** Sends standard input to the port, ends its sending side, prints the reply. */
  command: (port: string) => string[];
}

const CLIENTS: Client[] = [
  {
    name: CLIENT,
    needs: [],
    // deno-fmt-ignore
    command: (port) => [
      Deno.execPath(), "run", "--allow-net", `${ROOT}/client.ts`, "--port", port,
    ],
  },
  {
    name: "nc",
    needs: ["nc"],
    command: (port) => ["nc", "-N", "127.0.0.1", port],
  },
  {
    name: "socat",
    needs: ["socat"],
    // -t: how long it waits for replies after the end of its input.
    command: (port) => ["socat", "-t", "60", "-", `TCP:127.0.0.1:${port}`],
  },
  {
    name: "ncat",
    needs: ["ncat"],
    command: (port) => ["ncat", "127.0.0.1", port],
  },
  {
    name: "bare",
    needs: [],
    // deno-fmt-ignore
    command: (port) => [
      Deno.execPath(), "run", "--allow-net", `${PEERS}/bare_client.ts`, port,
    ],
  },
];

// ----------------------------------------------------------- what is measured

/** Bytes that uppercase_bench.ts measures at a time. */
const CHUNK = 256 * 1024;
const MEGABYTES = 300;
/** Bulk before memory is looked at. */
const MANY_MEGABYTES = 500;
const QUIET = 8000;
/** Starts of a client in each round. */
const STARTS = 5;

const SECTIONS = ["text", "bulk", "messages", "memory", "client"];

/** Rows of the tables, in their order. */
const ROWS: Record<string, string> = {
  ...Object.fromEntries(
    Object.keys(SENTENCES).map((
      text,
    ) => [`text-${text}`, `in process, ${text}: MB/s`]),
  ),
  ascii: "bulk, ASCII: MB/s",
  italian: "bulk, Italian: MB/s",
  greek: "bulk, Greek: MB/s",
  eight: "bulk, ASCII, 8 clients: MB/s",
  cpu: "CPU for bulk, ASCII: s/GB",
  one: "1 message at a time: µs, median",
  hundred: "messages, 100 connections: /s",
  thousands: "messages, 2,000 connections: /s",
  quiet: "a quiet connection of 8,000: KB",
  memory: "memory after 500 MB: MB",
  file: "300 MB from a file: s",
  start: "start to first reply: ms",
};
const TEXT_ROWS = Object.keys(SENTENCES).map((text) => `text-${text}`);
const CLIENT_ROWS = ["file", "start"];
const MORE_IS_BETTER = [
  ...TEXT_ROWS,
  "ascii",
  "italian",
  "greek",
  "eight",
  "hundred",
  "thousands",
];

interface Target {
  row: string;
  /** Ours divided by the same row of this peer; without one, ours itself. */
  peer?: string;
  /** Ours divided by another row of ours. */
  over?: string;
  least?: number;
  most?: number;
}

/** Texts that have capital letters, but ASCII. */
const CASED = [
  "italian",
  "french",
  "german",
  "greek",
  "russian",
  "turkish",
  "polish",
];

const TARGETS: Target[] = [
  ...Object.keys(SENTENCES).map((text): Target => ({
    row: `text-${text}`,
    peer: PLAIN,
    least: text === "ascii" ? 0.8 : CASED.includes(text) ? 3 : 2,
  })),
  { row: "ascii", peer: "c", least: 0.75 },
  ...["recipe", "node", "python", "go"].map((peer): Target => ({
    row: "ascii",
    peer,
    least: 1.3,
  })),
  ...["italian", "greek"].flatMap((row): Target[] => [
    { row, peer: "recipe", least: 3 },
    { row, peer: "node", least: 3 },
    { row, peer: "go", least: 1.5 },
  ]),
  { row: "eight", over: "ascii", least: 1 },
  ...["hundred", "thousands"].flatMap((row): Target[] => [
    { row, peer: "recipe", least: 2.5 },
    { row, peer: "node", least: 0.9 },
  ]),
  { row: "one", peer: "recipe", most: 1.25 },
  { row: "one", peer: "node", most: 1.25 },
  { row: "quiet", most: 24 },
  { row: "quiet", peer: "recipe", most: 1 / 3 },
  { row: "memory", most: 200 },
  { row: "file", peer: "nc", most: 1.05 }, // "no slower, within noise"
  { row: "file", peer: "socat", most: 1 },
  { row: "file", peer: "ncat", most: 1 },
  { row: "start", peer: "bare", most: 1.2 },
];

/** Every figure of every round, by row and by name. */
class Results {
  readonly values: Record<string, Record<string, number[]>> = {};
  /** What could not be measured, and why. */
  readonly notes = new Set<string>();

  add(row: string, name: string, value: number): void {
    ((this.values[row] ??= {})[name] ??= []).push(value);
  }

  /** The median, or nothing where nothing was measured. */
  median(row: string, name: string): number | undefined {
    return median(this.values[row]?.[name] ?? []);
  }

  /** One figure by another, each pair from the same round: this machine drifts. */
  ratios(row: string, name: string, belowRow: string, below: string): number[] {
    const above = this.values[row]?.[name] ?? [];
    const under = this.values[belowRow]?.[below] ?? [];
    return above.length === under.length
      ? above.map((value, round) => value / under[round]!)
      : []; // a round failed, and is in the notes
  }

  /** Measures; a failure is a note, and the other figures are measured still. */
  async try(what: string, measure: () => Promise<void>): Promise<void> {
    say(what);
    try {
      await measure();
    } catch (error) {
      this.notes.add(
        `${what}: ${error instanceof Error ? error.message : error}`,
      );
    }
  }
}

function median(values: number[]): number | undefined {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  const low = sorted[Math.ceil(middle) - 1];
  const high = sorted[Math.floor(middle)];
  return low === undefined || high === undefined ? undefined : (low + high) / 2;
}

/** UppercaseStream by itself, as `Deno.bench` measures it. */
async function measureText(results: Results, rounds: number): Promise<void> {
  for (let round = 1; round <= rounds; round++) {
    await results.try(`round ${round} of ${rounds}: text`, async () => {
      const { stdout } = await new Deno.Command(Deno.execPath(), {
        args: ["bench", "--json", `${ROOT}/tests/uppercase_bench.ts`],
      }).output();
      const { benches } = JSON.parse(new TextDecoder().decode(stdout)) as {
        benches: { name: string; results: { ok: { p75: number } }[] }[];
      };
      for (const { name, results: [result] } of benches) {
        const [text, stream] = name.split(": ");
        // Not the average: one pause of the machine moves that. p75 is in ns.
        const megabytesPerSecond = CHUNK / result!.ok.p75 * 1000;
        results.add(`text-${text}`, stream!, megabytesPerSecond);
      }
    });
  }
}

interface Running {
  server: Server;
  script: Script;
  address: Address;
}

/** A load for a server that runs already. */
interface Load {
  section: string;
  what: string;
  suits?: (server: Server) => boolean;
  /** Gives what it found, by row. A warm-up is short, and does not count. */
  measure: (
    running: Running,
    warmUp: boolean,
  ) => Promise<Record<string, number>>;
}

const LOADS: Load[] = [
  ...["ascii", "italian", "greek"].map((text): Load => ({
    section: "bulk",
    what: `bulk, ${text}`,
    suits: (server) => text === "ascii" || !server.ascii,
    measure: async ({ address, script }, warmUp) => {
      const before = cpuSeconds(script.pid);
      const megabytes = warmUp ? 20 : MEGABYTES;
      const found = await bulk(address, { text, megabytes });
      const row = { [text]: found.megabytesPerSecond };
      if (warmUp || text !== "ascii") return row;
      const cpu = await cpuSecondsAfter(script.pid, before);
      return { ...row, cpu: cpu / found.megabytes * 1000 };
    },
  })),
  {
    section: "bulk",
    what: "bulk, 8 clients",
    measure: async ({ address }, warmUp) => {
      const megabytes = warmUp ? 20 : MEGABYTES;
      const found = await bulk(address, { megabytes, clients: 8 });
      return { eight: found.megabytesPerSecond };
    },
  },
  ...[1, 100, 2000].map((connections): Load => ({
    section: "messages",
    what: `messages, connections: ${connections}`,
    suits: (server) => connections <= 100 || !server.forks,
    measure: async ({ address }, warmUp) => {
      const seconds = warmUp ? 0.5 : 2;
      const found = await messages(address, { connections, seconds });
      if (connections === 1) return { one: found.median };
      const row = connections === 100 ? "hundred" : "thousands";
      return { [row]: found.messagesPerSecond };
    },
  })),
];

/** Bulk and messages: all servers run, and each load goes to them in turn. */
async function measureLoads(
  results: Results,
  servers: Server[],
  sections: string[],
  rounds: number,
): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const running: Running[] = [];
  for (const server of servers) {
    await results.try(`starting ${server.name}`, async () => {
      const script = stack.use(Script.command(server.command));
      running.push({ server, script, address: await ready(server, script) });
    });
  }
  const loads = LOADS.filter(({ section }) => sections.includes(section));
  for (let round = 0; round <= rounds; round++) {
    const title = round === 0 ? "warm-up" : `round ${round} of ${rounds}`;
    for (const { what, suits, measure } of loads) {
      for (const one of running) {
        const { server } = one;
        if (suits && !suits(server)) continue;
        await results.try(`${title}: ${what}, ${server.name}`, async () => {
          const found = await measure(one, round === 0);
          if (round === 0) return;
          for (const [row, value] of Object.entries(found)) {
            results.add(row, server.name, value);
          }
        });
      }
    }
  }
}

/** Memory: a new process for each figure. */
async function measureMemory(
  results: Results,
  servers: Server[],
  rounds: number,
): Promise<void> {
  for (let round = 1; round <= rounds; round++) {
    for (const server of servers) {
      const { name } = server;
      if (server.forks) continue;
      const title = `round ${round} of ${rounds}: memory`;
      await results.try(`${title}, ${QUIET} connections, ${name}`, async () => {
        await using script = Script.command(server.command);
        const address = await ready(server, script);
        using _one = await hold(address, { connections: 1 });
        const before = residentBytes(script.pid);
        using _many = await hold(address, { connections: QUIET, timeout: 30 });
        const more = residentBytes(script.pid) - before;
        results.add("quiet", name, more / QUIET / 1000);
      });
      await results.try(`${title}, ${MANY_MEGABYTES} MB, ${name}`, async () => {
        await using script = Script.command(server.command);
        const address = await ready(server, script);
        await bulk(address, { megabytes: MANY_MEGABYTES });
        results.add("memory", name, residentBytes(script.pid) / 1e6);
      });
    }
  }
}

/** The clients, all with `server.ts`. */
async function measureClients(
  results: Results,
  clients: Client[],
  rounds: number,
): Promise<void> {
  const server = SERVERS[0]!;
  await using script = Script.command(server.command);
  const port = String((await ready(server, script)).port);
  const file = `${SCRATCH}/text`;
  writeText(file, MEGABYTES);

  for (let round = 1; round <= rounds; round++) {
    const title = `round ${round} of ${rounds}`;
    for (const { name, command } of clients) {
      if (name === "bare") continue; // it sends one line
      await results.try(
        `${title}: ${MEGABYTES} MB from a file, ${name}`,
        async () => {
          const start = performance.now();
          const { code } = await new Deno.Command("sh", {
            args: [
              "-c",
              `exec "$@" <${file} >/dev/null`,
              "sh",
              ...command(port),
            ],
          }).output();
          if (code !== 0) throw new Error(`exit code ${code}`);
          results.add("file", name, (performance.now() - start) / 1000);
        },
      );
    }
    for (let start = 0; start < STARTS; start++) {
      for (const { name, command } of clients) {
        await results.try(
          `${title}: start to first reply, ${name}`,
          async () => {
            const start = performance.now();
            await using client = Script.command(command(port));
            await client.write("hello\n");
            await client.stdoutMatch(/HELLO\n/);
            results.add("start", name, performance.now() - start);
          },
        );
      }
    }
  }
}

/** Whole blocks of text in a file. */
function writeText(path: string, megabytes: number): void {
  const block = new TextEncoder().encode(lines("ascii", 1e6));
  using file = Deno.openSync(path, {
    create: true,
    write: true,
    truncate: true,
  });
  for (let count = 0; count < megabytes; count++) {
    for (let at = 0; at < block.length;) {
      at += file.writeSync(block.subarray(at));
    }
  }
}

// ------------------------------------------------------------------ processes

/** Waits until a server listens; one that has not in 10 s is killed. */
async function ready(server: Server, script: Script): Promise<Address> {
  const tooLate = setTimeout(() => script.kill("SIGKILL"), 10_000);
  try {
    return await addressOf(server, script);
  } finally {
    clearTimeout(tooLate);
  }
}

async function addressOf(server: Server, script: Script): Promise<Address> {
  if (server.name !== "socat") return await listening(script);
  const [, port] = await script.stderrMatch(/listening on .*:([0-9]+)\n/);
  return { hostname: "127.0.0.1", port: Number(port) };
}

/** Memory in use (resident set), or NaN where there is no /proc. */
function residentBytes(pid: number): number {
  const status = readProc(pid, "status");
  return 1024 * Number(status.match(/^VmRSS:\s*([0-9]+) kB$/m)?.[1] ?? NaN);
}

/** Processor time so far, ended children included, or NaN without /proc. */
function cpuSeconds(pid: number): number {
  // proc(5): the name is in parentheses and may hold spaces; utime, stime,
  // cutime and cstime are fields 14 to 17, in ticks of 1/100 s.
  const fields = readProc(pid, "stat").split(") ")[1]?.split(" ") ?? [];
  const ticks = [11, 12, 13, 14].map((field) => Number(fields[field] ?? NaN));
  return ticks.reduce((sum, tick) => sum + tick, 0) / 100;
}

/** Processor time since; waits for that of a client's processes to be added. */
async function cpuSecondsAfter(pid: number, before: number): Promise<number> {
  let used = cpuSeconds(pid) - before;
  for (let wait = 0; wait < 20 && used < 0.05; wait++) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    used = cpuSeconds(pid) - before;
  }
  return used;
}

function readProc(pid: number, name: string): string {
  try {
    return Deno.readTextFileSync(`/proc/${pid}/${name}`);
  } catch {
    return ""; // not Linux
  }
}

/**
 * Is there a program of this name? Where there is no Node, Deno puts itself on
 * the PATH as `node`: that does not count.
 */
function isThere(program: string): boolean {
  const folders = (Deno.env.get("PATH") ?? "").split(":");
  return folders.some((folder) => {
    try {
      const path = Deno.realPathSync(`${folder}/${program}`);
      return path !== Deno.realPathSync(Deno.execPath());
    } catch {
      return false;
    }
  });
}

/** Those that this machine can run; the others are named in the notes. */
async function present<
  Peer extends { name: string; needs: string[]; build?: string[] },
>(
  results: Results,
  peers: Peer[],
): Promise<Peer[]> {
  const found: Peer[] = [];
  for (const peer of peers) {
    const missing = peer.needs.find((program) => !isThere(program));
    if (missing !== undefined) {
      results.notes.add(
        `${peer.name} is left out: there is no ${missing} here`,
      );
      continue;
    }
    if (peer.build !== undefined) {
      say(`compiling ${peer.name}`);
      const [program, ...args] = peer.build;
      const { success, stderr } = await new Deno.Command(program!, { args })
        .output();
      if (!success) {
        const why = new TextDecoder().decode(stderr).trim().split("\n").pop();
        results.notes.add(`${peer.name} is left out: ${why}`);
        continue;
      }
    }
    found.push(peer);
  }
  return found;
}

// ---------------------------------------------------------------- the tables

/** A Markdown table that is readable as it is. */
function table(rows: string[][]): string {
  const widths = rows[0]!.map((_, column) =>
    Math.max(3, ...rows.map((row) => row[column]!.length))
  );
  const format = (row: string[]) =>
    `| ${
      row.map((cell, column) =>
        column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!)
      ).join(" | ")
    } |`;
  const rule = widths.map((width, column) =>
    column === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`
  );
  return [rows[0]!, rule, ...rows.slice(1)].map(format).join("\n");
}

function number(value: number): string {
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return value.toLocaleString("en", {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
}

/** Medians, and behind each how many times better ours is. */
function medians(
  results: Results,
  rows: string[],
  ours: string,
  names: string[],
): string {
  const measured = rows.filter((row) =>
    results.median(row, ours) !== undefined
  );
  if (measured.length === 0) return "";
  const cell = (row: string, name: string) => {
    const value = results.median(row, name);
    if (value === undefined || Number.isNaN(value)) return "-";
    if (name === ours) return number(value);
    const ratio = median(results.ratios(row, ours, row, name));
    if (ratio === undefined) return number(value);
    const better = MORE_IS_BETTER.includes(row) ? ratio : 1 / ratio;
    return `${number(value)} (${better.toFixed(2)})`;
  };
  return table([
    ["", ...names],
    ...measured.map((row) => [
      ROWS[row]!,
      ...names.map((name) => cell(row, name)),
    ]),
  ]) + "\n\n";
}

interface Verdict {
  what: string;
  wanted: string;
  value: number;
  /** In how many of the rounds (for the start, of the starts). */
  reached: string;
}

/** What was wanted, and whether it is so: as far as it was measured. */
function verdicts(results: Results): Verdict[] {
  return TARGETS.flatMap(({ row, peer, over, least, most }) => {
    const ours = TEXT_ROWS.includes(row)
      ? STREAM
      : CLIENT_ROWS.includes(row)
      ? CLIENT
      : SERVER;
    const ratios = over !== undefined
      ? results.ratios(row, ours, over, ours)
      : peer !== undefined
      ? results.ratios(row, ours, row, peer)
      : results.values[row]?.[ours] ?? [];
    const value = median(ratios);
    if (value === undefined || Number.isNaN(value)) return []; // no /proc here
    const good = ratios.filter((ratio) =>
      ratio >= (least ?? -Infinity) && ratio <= (most ?? Infinity)
    );
    const beside = over !== undefined
      ? ` / ${ROWS[over]}`
      : peer !== undefined
      ? ` / ${peer}`
      : "";
    return [{
      what: ROWS[row] + beside,
      wanted: least !== undefined
        ? `at least ${number(least)}`
        : `at most ${number(most!)}`,
      value,
      reached: `${good.length} of ${ratios.length}`,
    }];
  });
}

/** What this was measured on. */
function machine(): string {
  const cpuinfo = (() => {
    try {
      return Deno.readTextFileSync("/proc/cpuinfo");
    } catch {
      return "";
    }
  })();
  const model = cpuinfo.match(/^model name\s*: (.*)$/m)?.[1] ?? Deno.build.arch;
  return `${model}, ${navigator.hardwareConcurrency} cores, ` +
    `${Deno.build.os} ${Deno.osRelease()}, Deno ${Deno.version.deno}`;
}

// ------------------------------------------------------- options and messages

const NAMES = [
  ...SERVERS.map(({ name }) => name),
  ...CLIENTS.map(({ name }) => name),
];

const USAGE = `Measures server.ts and client.ts beside their peers.

Usage: deno task bench [options]

  --only LIST   of ${SECTIONS.join(", ")} (what is measured), and
                of ${[...new Set(NAMES)].slice(1).join(", ")}
                (beside whom); default all
  --rounds N    default 3
  --json FILE   writes every figure of every round there
  -h, --help    show this

A LIST has commas and no spaces. In brackets behind a peer's median: how many
times better server.ts or client.ts is, the median of the rounds' ratios.`;

interface Options {
  sections: string[];
  peers: string[];
  rounds: number;
  json?: string;
}

/** Reads the options, or ends the process: 0 after help, 2 after a mistake. */
function readOptions(args: string[]): Options {
  try {
    const { values } = parseArgs({
      args,
      options: {
        only: { type: "string" },
        rounds: { type: "string", default: "3" },
        json: { type: "string" },
        help: { type: "boolean", short: "h", default: false },
      },
    });
    if (values.help) {
      console.log(USAGE);
      Deno.exit(0);
    }
    const only = values.only?.split(",") ?? [];
    const unknown = only.find((name) =>
      ![...SECTIONS, ...NAMES].includes(name)
    );
    if (unknown !== undefined) {
      throw new Error(`--only does not know ${JSON.stringify(unknown)}`);
    }
    if (!/^[1-9][0-9]?$/.test(values.rounds)) {
      throw new Error(
        `--rounds must be a whole number from 1 to 99, ` +
          `not ${JSON.stringify(values.rounds)}`,
      );
    }
    const chosen = (known: string[]) => {
      const some = known.filter((name) => only.includes(name));
      return some.length > 0 ? some : known;
    };
    return {
      sections: chosen(SECTIONS),
      peers: [SERVER, CLIENT, ...chosen(NAMES)],
      rounds: Number(values.rounds),
      json: values.json,
    };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    fail(`${message.replaceAll("\n", " ")} (--help shows the options)`, 2);
  }
}

function fail(message: string, code = 1): never {
  console.error(`bench: ${message}`);
  Deno.exit(code);
}

/** What is running now: one line on a terminal, a line each elsewhere. */
function say(what: string): void {
  const line = Deno.stderr.isTerminal() ? `\r\x1b[K${what}` : `${what}\n`;
  Deno.stderr.writeSync(new TextEncoder().encode(line));
}

async function main(options: Options): Promise<void> {
  const { sections, peers, rounds } = options;
  const results = new Results();
  const chosen = (all: { name: string }[]) => ({ name }: { name: string }) =>
    all.some((peer) => peer.name === name) && peers.includes(name);
  const servers =
    ["bulk", "messages", "memory"].some((section) => sections.includes(section))
      ? await present(results, SERVERS.filter(chosen(SERVERS)))
      : [];
  const clients = sections.includes("client")
    ? await present(results, CLIENTS.filter(chosen(CLIENTS)))
    : [];

  if (sections.includes("text")) await measureText(results, rounds);
  if (sections.includes("bulk") || sections.includes("messages")) {
    await measureLoads(results, servers, sections, rounds);
  }
  if (sections.includes("memory")) {
    await measureMemory(results, servers, rounds);
  }
  if (clients.length > 0) await measureClients(results, clients, rounds);
  say("");

  const rows = Object.keys(ROWS).filter((row) =>
    !TEXT_ROWS.includes(row) && !CLIENT_ROWS.includes(row)
  );
  const found = verdicts(results);
  console.log(
    `${machine()}\nMedians, rounds: ${rounds}. In brackets: how many times ` +
      `better server.ts or client.ts is.\n\n` +
      medians(results, TEXT_ROWS, STREAM, [STREAM, PLAIN]) +
      medians(results, rows, SERVER, servers.map(({ name }) => name)) +
      medians(results, CLIENT_ROWS, CLIENT, clients.map(({ name }) => name)) +
      table([
        ["target", "wanted", "median", "reached in"],
        ...found.map(({ what, wanted, value, reached }) => [
          what,
          wanted,
          number(value),
          reached,
        ]),
      ]),
  );
  if (results.notes.size > 0) console.log(`\n${[...results.notes].join("\n")}`);
  if (options.json !== undefined) {
    Deno.writeTextFileSync(
      options.json,
      JSON.stringify(
        {
          machine: machine(),
          rounds,
          rows: ROWS,
          values: results.values,
          targets: found,
          notes: [...results.notes],
        },
        null,
        2,
      ) + "\n",
    );
  }
}

if (import.meta.main) {
  const options = readOptions(Deno.args);
  Deno.mkdirSync(SCRATCH);
  const tidy = () => Deno.removeSync(SCRATCH, { recursive: true });
  Deno.addSignalListener("SIGINT", () => {
    tidy();
    Deno.exit(130);
  });
  try {
    await main(options);
  } finally {
    tidy();
  }
  Deno.exit(); // the listener would keep it waiting
}
