// SPDX-License-Identifier: 0BSD

// Runs lib's checks against servers that are right and servers that are wrong
// in one way, and holds them to finding just that.

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { checks, conform, type Report } from "../lib/conformance.ts";
import { listening, Script } from "../lib/parts/process.ts";
import { has } from "./machine.ts";
import { SERVER } from "./pair.ts";

const DENO = [Deno.execPath(), "run", "--allow-net"];

function path(name: string): string {
  return fileURLToPath(new URL(name, import.meta.url));
}

/** The words of a text, where a list of strings would be long. */
function words(text: string): string[] {
  return text.match(/\S+/g) ?? [];
}

/** A server, and what the checks have to say of it. */
interface Server {
  name: string;
  /** How it is started, on a free port. */
  command: string[];
  /** The programs without which it cannot be started. @default none but deno */
  needs?: string;
  /** What it says when it is ready, port last. @default listening on HOST:PORT */
  ready?: RegExp;
  /** The checks that it is asked. @default all */
  asked?: string;
  /** How often it is asked until it breaks something. @default 1 */
  rounds?: number;
  /** The checks that it does not keep. */
  breaks: string;
  /** Words from the cause that the first of them tells. */
  cause?: RegExp;
  /** Words from the remark on a check that it keeps. @default no remark */
  remark?: RegExp;
  /** It is a textbook's server, which never meant to keep them. @default false */
  oneReply?: boolean;
  /** The last of them ends it, so it is asked no more. @default false */
  dies?: boolean;
}

// ----------------------------------------------------------------- right servers

const ORDINARY: Server[] = [
  {
    name: "a textbook's server in Java",
    command: ["java", path("peers/Textbook.java")],
    needs: "javac",
    // An empty connection gives it null for a line, and it dies of that.
    breaks: "several-lines pieces no-line-end crlf conversation order " +
      "half-close two-clients pause slow-reader letters special cuts " +
      "first-character empty",
    oneReply: true,
    dies: true,
  },
  {
    name: "a thread for each client in Java",
    command: ["java", path("peers/Threads.java")],
    needs: "javac",
    breaks: "",
  },
  {
    name: "server.ts",
    command: [...DENO, SERVER, "--port=0"],
    breaks: "",
  },
  {
    name: "asyncio in Python",
    command: ["python3", path("peers/asyncio.py")],
    needs: "python3",
    breaks: "",
  },
  {
    name: "streams in Node",
    command: ["node", path("peers/node.mjs")],
    needs: "node",
    breaks: "",
  },
  {
    // Without -t socat drops replies 0.5 s after a half-close; without stdbuf
    // tr keeps them in a buffer.
    name: "socat with tr, which knows A to Z alone",
    command: [
      ..."socat -dd -t 60 TCP-LISTEN:0,bind=127.0.0.1,fork,backlog=128"
        .split(" "),
      "EXEC:stdbuf -o0 tr a-z A-Z",
    ],
    ready: /listening on AF=2 127\.0\.0\.1:([0-9]+)/,
    needs: "socat",
    breaks: "letters special",
  },
];

// ----------------------------------------------------------------- wrong servers

/** Checks that compare a reply with what was sent, but for the slow ones. */
const CONTENT =
  "uppercase untouched zero-byte several-lines pieces no-line-end crlf " +
  "long-line conversation order half-close two-clients hundred letters " +
  "special cuts first-character";

/** Checks that send more than 64 KB on a connection. */
const LONG = "long-line order half-close slow-reader cuts";

const ALL = checks.map(({ name }) => name).join(" ");
const QUICK = ALL.replace(/pause|slow-reader|never-reads|early-reset/g, "");

/**
 * Faults of `wrong/server.ts`, the checks that have to find each, and words
 * from the cause that the first of them tells. It is asked these checks and
 * those that take little, unless other ones are named.
 */
const FAULTS: Record<
  string,
  [breaks: string, cause?: RegExp, asked?: string]
> = {
  "loses line ends": [CONTENT, /the line ends are lost/],
  "pauses and never resumes": [
    "long-line order",
    /a line|never resumed/,
    "uppercase several-lines long-line order", // each costs two time limits
  ],
  "one client at a time": [
    "two-clients hundred never-reads",
    /accept and serve run in turn/,
  ],
  "one client that does not read holds up all": ["never-reads"],
  "drops the tail at half-close": [
    "no-line-end half-close slow-reader",
    /the reply was dropped/,
  ],
  "never closes": ["half-close empty", /after fork\(\) the parent/],
  "replies at the end only": ["interactive", /flush/],
  "greets each client": [`${CONTENT} empty`, /nobody asked for \(a greeting/],
  "labels its replies": [`${CONTENT} empty`, /nobody asked for/],
  "changes line ends": ["no-line-end crlf", /line end was added/],
  "answers in \\r\\n": [CONTENT, /println\(\) may write \\r\\n/],
  "takes an empty line for the end": [
    "several-lines no-line-end crlf half-close",
    /an empty line is a line/,
  ],
  "sends its buffer whole": [CONTENT, /a buffer is sent whole/],
  "lower-cases": [CONTENT, /opposite of toUpperCase/],
  "never flushes": ["uppercase", /PrintWriter.*flush/],
  "writes Latin-1": [
    "letters special cuts first-character",
    /another encoding/,
  ],
  "uppercases letter by letter": ["special", /letter is turned by itself/],
  "uppercases A to Z alone": ["letters special", /only A to Z/],
  "takes a byte order mark away": ["first-character", /ignoreBOM/],
  "ten clients at a time": ["hundred", /wait for each other/],
  "keeps replies in memory": ["", undefined, ALL],
  "none": ["", undefined, ALL],
  "cuts characters": ["cuts", /was cut between two reads/],
  "forgets a last line without line end": ["no-line-end", /forgotten/],
  "mixes two clients' buffers": ["two-clients", /share a buffer/],
  "stops at 64 KB": [LONG, /longest length/],
  "has lines of 64 KB at most": ["long-line", /scanner's limit/],
  "closes after 2 s without a byte": [
    "pause",
    /gave up a client who paused/,
    "pause", // on a busy machine other checks may take it 2 s
  ],
  "closes after the first packet": [
    "pieces long-line conversation order half-close two-clients pause " +
    "slow-reader cuts",
  ],
  "sends the halves of a long read in turn": [LONG],
  "dies of bytes that are no text": ["not-text", /decoder's error/],
  "dies of an empty connection": ["empty", /gives null/],
  "dies of a reset": ["reset", /catch errors where a client is served/],
  "dies of an early reset": ["early-reset", /accept\(\) itself fails/],
};

const WRONG = Object.entries(FAULTS).map(
  ([name, [breaks, cause, asked = `${breaks} ${QUICK}`]]): Server => ({
    name,
    command: [...DENO, path("wrong/server.ts"), name],
    asked,
    breaks,
    cause,
    remark: name === "keeps replies in memory" ? /took all 20 MB/ : undefined,
    oneReply: name === "closes after the first packet",
    dies: /^dies of|^never flushes/.test(name),
  }),
);

/** Faults that live in C or in Node: one check is asked until it finds them. */
const ELSEWHERE: Record<string, [check: string, cause: RegExp]> = {
  "a pipe in Node that lacks allowHalfOpen": [
    "slow-reader",
    /closed the connection before all/,
  ],
  "dies of SIGPIPE": ["reset", /in C ignore SIGPIPE/],
  "threads share a static buffer": ["hundred", /they share a buffer/],
  "looks at no result of write()": [
    "slow-reader",
    /lost or doubled|before all was sent/,
  ],
  "takes strlen() for the count": ["zero-byte", /strlen/],
  "cuts lines at 1 KB": ["long-line", /line buffer/],
  "does not test what fgets() gives": [
    "order",
    /goes on sending without end.*null/,
  ],
  "sleeps 200 ms for each 4 KB": ["order", /too slow/],
  "the parent keeps the socket after fork()": ["half-close", /after fork\(\)/],
  "never closes a descriptor": ["early-reset", /no descriptor is left/],
};

/** The servers with such faults; `program` is the one in C. */
function elsewhere(program: string): Server[] {
  return Object.entries(ELSEWHERE).map(([name, [breaks, cause]]) => {
    const inNode = name.startsWith("a pipe in Node");
    return {
      name,
      command: inNode
        ? ["node", path("wrong/pipe.mjs")]
        // So few descriptors as a user has who never asked for more.
        : ["prlimit", "--nofile=256", program, name],
      needs: inNode ? "node" : "cc prlimit",
      asked: breaks,
      rounds: 30,
      breaks,
      cause,
    };
  });
}

// ------------------------------------------------------------------- the tests

/** The checks with these outcomes: their names. */
function named({ results }: Report, ...outcomes: string[]): string[] {
  return results.filter(({ outcome }) => outcomes.includes(outcome))
    .map(({ name }) => name);
}

async function report(server: Server): Promise<Report> {
  const { command, ready, asked } = server;
  await using script = Script.command(command);
  const port = ready
    ? Number((await script.stderrMatch(ready))[1])
    : (await listening(script)).port;
  const address = { hostname: "127.0.0.1", port };
  return await conform(address, {
    checks: checks.filter(({ name }) => words(asked ?? ALL).includes(name)),
    timeout: 2.5,
  });
}

/** Throws unless the checks say of a server just what is to be said. */
async function judge(server: Server): Promise<void> {
  const { breaks, cause, oneReply = false, dies = false } = server;
  let found = await report(server);
  for (let round = 1; round < (server.rounds ?? 1); round++) {
    if (named(found, "broken").length > 0) break;
    found = await report(server);
  }
  const expected = words(breaks);
  assert.deepEqual(
    named(found, "broken", "not meant"),
    expected,
    "the checks that its fault breaks",
  );
  // A textbook's server is held to the checks of one line alone.
  const meant = checks.filter((check) => check.oneLine || !oneReply)
    .map(({ name }) => name);
  assert.deepEqual(
    named(found, "broken"),
    expected.filter((name) => meant.includes(name)),
  );
  const names = found.results.map(({ name }) => name);
  const after = names.slice(names.indexOf(expected.at(-1)!) + 1);
  assert.deepEqual(named(found, "not asked"), dies ? after : []);
  assert.equal(found.oneReply, oneReply);
  const broken = found.results.filter(({ outcome }) => outcome === "broken");
  for (const { sent, came, usualCause } of broken) {
    assert(sent && came && usualCause);
  }
  if (cause) assert.match(broken[0].usualCause!, cause);
  const remarks = found.results.flatMap(({ remark = [] }) => remark);
  assert.match(remarks.join(), server.remark ?? /^$/);
}

Deno.test({
  name: "checks - a right server in any language keeps them all, and a wrong " +
    "one breaks just those of its fault",
  sanitizeExit: false, // which would have one step at a time
  async fn(t) {
    const folder = await Deno.makeTempDir();
    try {
      const program = `${folder}/faults`;
      if (has("cc")) {
        const args = ["-pthread", path("wrong/faults.c"), "-o", program];
        assert((await new Deno.Command("cc", { args }).output()).success);
      }
      // Eight at a time: most of what they take is waiting.
      const next = [...ORDINARY, ...elsewhere(program), ...WRONG].values();
      await Promise.all(Array.from({ length: 8 }, async () => {
        for (const server of next) {
          const missing = words(server.needs ?? "").find((one) => !has(one));
          await t.step({
            name: server.name + (missing ? ` (skipped: no ${missing})` : ""),
            ignore: missing !== undefined,
            sanitizeExit: false,
            fn: () => judge(server),
          });
        }
      }));
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});

Deno.test("checks - each of them finds a wrong server", () => {
  const found = [...Object.values(FAULTS), ...Object.values(ELSEWHERE)]
    .flatMap(([breaks]) => words(breaks));
  assert.deepEqual(checks.filter(({ name }) => !found.includes(name)), []);
});
