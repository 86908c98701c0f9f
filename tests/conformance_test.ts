// SPDX-License-Identifier: 0BSD

// Runs lib's checks against servers that are right and servers that are wrong
// in one way, and holds them to finding just that.

import assert from "node:assert/strict";
import {
  type Check,
  checks,
  conform,
  type Report,
} from "../lib/conformance.ts";
import { fileURLToPath } from "node:url";
import { type Ending, listening, Script } from "../lib/parts/process.ts";
import { freePort, has, TERMINAL } from "./machine.ts";
import { SERVER } from "./pair.ts";

const PROGRAM = path("../lib/conformance.ts");
const DENO = [Deno.execPath(), "run", "--allow-net"];

function path(name: string): string {
  return fileURLToPath(new URL(name, import.meta.url));
}

// ------------------------------------------------------------ running the checks

/** The words of a text, where a list of strings would be long. */
function words(text: string): string[] {
  return text.match(/\S+/g) ?? [];
}

/** A server's report, made when its turn comes. */
interface Run {
  /** How the server is started, its port 0. */
  command: string[];
  /** What it says when it is ready, port last. @default listening on HOST:PORT */
  ready?: RegExp;
  /** What it is asked. @default everything */
  asked?: Check[];
}

async function report(run: Run): Promise<Report> {
  await using script = Script.command(run.command);
  const port = run.ready
    ? Number((await script.stderrMatch(run.ready))[1])
    : (await listening(script)).port;
  const address = { hostname: "127.0.0.1", port };
  return await conform(address, { checks: run.asked, timeLimit: 2500 });
}

/**
 * Six servers at a time: most of what wrong ones take is waiting. Settled, so
 * that the first that fails does not hide the others.
 */
function reports(runs: Run[]): (() => Promise<Report>)[] {
  const settled = runs.map(() => Promise.withResolvers<Report>());
  const next = runs.entries();
  const work = async () => {
    for (const [place, run] of next) {
      await report(run).then(settled[place]!.resolve, settled[place]!.reject);
    }
  };
  for (const { promise } of settled) promise.catch(() => {});
  for (let count = 0; count < 6; count++) work();
  return settled.map(({ promise }) => () => promise);
}

/** The checks that a server did not keep: their names. */
function notKept({ results }: Report): string[] {
  return results
    .filter(({ outcome }) => outcome === "broken" || outcome === "not meant")
    .map(({ name }) => name);
}

/** The checks that it was not asked any more: their names. */
function notAsked({ results }: Report): string[] {
  return results
    .filter(({ outcome }) => outcome === "not asked")
    .map(({ name }) => name);
}

// ----------------------------------------------------------------- right servers

interface Peer extends Run {
  name: string;
  /** The program without which it cannot be started. */
  needs: string;
  /** Checks that it does not keep, and never said it would. */
  notKept?: string[];
}

const PEERS: Peer[] = [
  {
    name: "server.ts",
    command: [...DENO, SERVER, "--port=0"],
    needs: "deno",
  },
  {
    name: "asyncio in Python",
    command: ["python3", path("peers/asyncio.py")],
    needs: "python3",
  },
  {
    name: "streams in Node",
    command: ["node", path("peers/node.mjs")],
    needs: "node",
  },
  {
    name: "a thread for each client in Java",
    command: ["java", path("peers/Threads.java")],
    needs: "javac",
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
    notKept: ["letters", "special"],
  },
];

const TEXTBOOK: Peer = {
  name: "a textbook's server is told apart, and what it keeps is said",
  command: ["java", path("peers/Textbook.java")],
  needs: "javac",
};

Deno.test("conformance - a right server in any language fails no check", async (t) => {
  const here = [...PEERS, TEXTBOOK].filter(({ needs }) =>
    needs === "deno" || has(needs)
  );
  const made = reports(here);
  const step = (peer: Peer, judge: (report: Report) => void) => {
    const place = here.indexOf(peer);
    const skipped = place === -1 ? ` (skipped: no ${peer.needs} here)` : "";
    return t.step({
      name: peer.name + skipped,
      ignore: place === -1,
      fn: async () => judge(await made[place]!()),
    });
  };
  for (const peer of PEERS) {
    await step(peer, ({ results, oneReply }) => {
      const wrong = results.filter(({ outcome, name, remark }) =>
        remark !== undefined ||
        outcome !== (peer.notKept?.includes(name) ? "broken" : "kept")
      );
      assert.deepEqual(wrong, []);
      assert.equal(results.length, checks.length);
      assert.equal(oneReply, false);
    });
  }
  await step(TEXTBOOK, (report) => {
    assert.equal(report.oneReply, true);
    const kept = report.results.filter(({ outcome }) => outcome === "kept");
    assert.deepEqual(
      kept.map(({ name }) => name),
      words(
        "uppercase untouched zero-byte long-line interactive hundred never-reads not-text",
      ),
    );
    // An empty connection gives it null for a line, and it dies of that.
    assert.deepEqual(notAsked(report), ["reset", "early-reset"]);
    for (const { outcome } of report.results) {
      assert.notEqual(outcome, "broken", "it did all that it was meant to do");
    }
  });
});

// ----------------------------------------------------------------- wrong servers

/** Checks that compare a reply with what was sent. */
const CONTENT =
  "uppercase untouched zero-byte several-lines pieces no-line-end crlf " +
  "long-line conversation order half-close two-clients hundred pause " +
  "slow-reader letters special cuts first-character";

/** Checks that send more than 64 KB on a connection. */
const LONG = "long-line order half-close slow-reader cuts";

/**
 * Faults of `wrong/server.ts`, the checks that have to find each, and words
 * from the cause that the first of them tells. What takes the longest waits
 * comes first.
 */
const FAULTS: Record<string, [breaks: string, cause?: RegExp]> = {
  "loses line ends": [CONTENT, /the line ends are lost/],
  "pauses and never resumes": [LONG, /a line|never resumed/],
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
  "none": [""],
  "keeps replies in memory": [""],
  "cuts characters": ["cuts", /was cut between two reads/],
  "forgets a last line without line end": ["no-line-end", /forgotten/],
  "mixes two clients' buffers": ["two-clients", /share a buffer/],
  "stops at 64 KB": [LONG, /longest length/],
  "has lines of 64 KB at most": ["long-line", /scanner's limit/],
  "closes after 2 s without a byte": ["pause", /gave up a client who paused/],
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

Deno.test("conformance - a wrong server fails just the checks that its fault breaks", async (t) => {
  const faults = Object.keys(FAULTS);
  // What takes long is asked of those that must not keep it, and of two others.
  const long = words("pause slow-reader never-reads early-reset");
  const asked = (fault: string) =>
    checks.filter(({ name }) => {
      if (words(FAULTS[fault]![0]).includes(name)) return true;
      // On a busy machine other checks may take it 2 s.
      if (fault === "closes after 2 s without a byte") return false;
      return !long.includes(name) || /^(none|keeps replies)/.test(fault);
    });
  const made = reports(faults.map((fault) => ({
    command: [...DENO, path("wrong/server.ts"), fault],
    asked: asked(fault),
  })));
  for (const [fault, [breaks, cause]] of Object.entries(FAULTS)) {
    const expected = words(breaks);
    const fn = async () => {
      const report = await made[faults.indexOf(fault)]!();
      assert.deepEqual(notKept(report), expected);
      // A server that has died is asked nothing more, and others everything.
      const names = asked(fault).map(({ name }) => name);
      const after = names.slice(names.indexOf(expected[0]!) + 1);
      const dead = /^dies of|^never flushes/.test(fault);
      assert.deepEqual(notAsked(report), dead ? after : []);
      const broken = report.results.filter((one) => one.outcome === "broken");
      for (const { sent, came, usualCause } of broken) {
        assert(sent && came && usualCause);
      }
      if (cause) assert.match(broken[0]!.usualCause!, cause);
      if (fault === "keeps replies in memory") {
        const { remark } = report.results.find(({ remark }) => remark)!;
        assert.match(remark!, /took all 20 MB/);
      }
    };
    await t.step(fault, fn);
  }
});

Deno.test("conformance - every check finds a wrong server", () => {
  const found = new Set(
    [...Object.values(FAULTS), ...NATIVE.map(({ breaks }) => breaks)]
      .flatMap(([breaks]) => words(breaks)),
  );
  const never = checks.filter(({ name }) => !found.has(name));
  assert.deepEqual(never, []);
});

/** Faults that live in a language, or in chance. */
const NATIVE: { fault: string; breaks: [check: string, cause: RegExp] }[] = [
  { fault: "dies of SIGPIPE", breaks: ["reset", /in C ignore SIGPIPE/] },
  {
    fault: "threads share a static buffer",
    breaks: ["hundred", /they share a buffer/],
  },
  {
    fault: "looks at no result of write()",
    breaks: ["slow-reader", /lost or doubled|before all was sent/],
  },
  { fault: "takes strlen() for the count", breaks: ["zero-byte", /strlen/] },
  { fault: "cuts lines at 1 KB", breaks: ["long-line", /line buffer/] },
  {
    fault: "does not test what fgets() gives",
    breaks: ["order", /goes on sending without end.*null/],
  },
  { fault: "sleeps 200 ms for each 4 KB", breaks: ["order", /too slow/] },
  {
    fault: "the parent keeps the socket after fork()",
    breaks: ["half-close", /after fork\(\)/],
  },
  {
    fault: "never closes a descriptor",
    breaks: ["early-reset", /no descriptor is left/],
  },
];

/** Asks for one promise until it is broken: a fault of chance may hide. */
async function findsOnce(
  command: string[],
  [check, cause]: [check: string, cause: RegExp],
): Promise<void> {
  for (let round = 1;; round++) {
    await using server = Script.command(command);
    const address = await listening(server);
    const { results } = await conform(address, {
      checks: checks.filter(({ name }) => name === check),
      timeLimit: 1500,
    });
    if (results[0]!.outcome === "broken") {
      return assert.match(results[0]!.usualCause!, cause);
    }
    assert(round < 30, "a wrong server has passed thirty times");
  }
}

Deno.test({
  name: "conformance - finds the faults of a server in C",
  ignore: !has("cc") || !has("prlimit"),
  async fn(t) {
    const folder = await Deno.makeTempDir();
    try {
      const program = `${folder}/threads`;
      const build = ["-pthread", path("wrong/threads.c"), "-o", program];
      const { success } = await new Deno.Command("cc", { args: build })
        .output();
      assert(success);
      for (const { fault, breaks } of NATIVE) {
        // So few descriptors as a user has who never asked for more.
        const command = ["prlimit", "--nofile=256", program, fault];
        await t.step(fault, () => findsOnce(command, breaks));
      }
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});

Deno.test({
  name: "conformance - finds a pipe in Node that lacks allowHalfOpen",
  ignore: !has("node"),
  fn: () =>
    findsOnce(["node", path("wrong/pipe.mjs")], [
      "slow-reader",
      /closed the connection before all/,
    ]),
});

// ---------------------------------------------------------------- the program

/** Runs the program, or another one, against a wrong server; its ending. */
async function run(
  fault: string,
  options: string,
  program = PROGRAM,
): Promise<Ending> {
  await using server = Script.start(path("wrong/server.ts"), { args: [fault] });
  const { port } = await listening(server);
  await using script = Script.start(program, {
    args: ["--port", String(port), ...words(options)],
  });
  return await script.ending();
}

Deno.test("conformance - --list and lib/README.md name every check", async () => {
  await using script = Script.start(PROGRAM, { args: ["--list"] });
  const { code, stdout } = await script.ending();
  assert.equal(code, 0);
  const page = await Deno.readTextFile(path("../lib/README.md"));
  const rows = page.matchAll(
    /^\| (\S+) +\| (required|full text) +\| (.*?) *\|$/gm,
  );
  const squeezed = [...rows].map(([, ...cells]) => cells.join(" "));
  assert.deepEqual(
    squeezed,
    checks.map(({ name, level, promise }) => `${name} ${level} ${promise}`),
  );
  assert.deepEqual(
    stdout.trimEnd().split("\n").map((line) => line.replace(/ {2,}/g, " ")),
    squeezed,
  );
});

Deno.test("conformance - a teacher's own check in lib/README.md runs", async () => {
  const page = await Deno.readTextFile(path("../lib/README.md"));
  const [, block] = page.match(/^```ts ignore\n(.*?)^```$/ms)!;
  const file = await Deno.makeTempFile({ suffix: ".ts" });
  try {
    const lib = new URL("../lib/", import.meta.url).href;
    await Deno.writeTextFile(file, block!.replace("./lib/", lib));
    const fault = "uppercases A to Z alone";
    const { code, stdout } = await run(fault, "--only italian", file);
    // The page shows the same output.
    assert(page.includes(stdout), stdout);
    assert.equal(code, 1);
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("conformance - --only asks just the checks that it names", async () => {
  const { code, stdout } = await run(
    "replies at the end only",
    "--only crlf --only uppercase",
  );
  assert.match(
    stdout,
    /^✓ uppercase .*\n✓ crlf .*\n\nPromises kept: .* 2 of 2\.\n$/,
  );
  assert.equal(code, 0);
});

Deno.test("conformance - a promise that is not kept is explained, exit code 1", async () => {
  const { code, stdout, stderr } = await run(
    "lower-cases",
    "--only uppercase",
  );
  assert.match(stdout, /^✗ uppercase /m);
  assert.match(stdout, /^ +sent +"The quick/m);
  assert.match(stdout, /^ +came +"the quick/m);
  assert.match(stdout, /^ +cause +lower case came back/m);
  assert.equal(stderr, "");
  assert.equal(code, 1);
});

Deno.test("conformance - full text decides the exit code with --strict alone", async () => {
  const fault = "uppercases A to Z alone";
  assert.equal((await run(fault, "--only letters")).code, 0);
  assert.equal((await run(fault, "--only letters --strict")).code, 1);
});

Deno.test("conformance - --json gives the report as JSON", async () => {
  const { code, stdout } = await run(
    "lower-cases",
    "--json --only uppercase --only empty",
  );
  const { ok, oneReply, results } = JSON.parse(stdout);
  assert.equal(ok, false);
  assert.equal(oneReply, false);
  assert.equal(results.length, 2);
  assert.equal(results[0].name, "uppercase");
  assert.equal(results[0].outcome, "broken");
  assert.match(results[0].usualCause, /lower case/);
  assert.equal(results[1].outcome, "kept");
  assert.equal(code, 1);
});

Deno.test("conformance - a server that answers once is told kindly that it is a textbook's", async () => {
  const { stdout } = await run(
    "closes after the first packet",
    "--only uppercase --only conversation",
  );
  assert.match(stdout, /^✓ uppercase /m);
  assert.match(stdout, /^· conversation /m);
  assert.match(stdout, /textbook's server/);
  assert.doesNotMatch(stdout, /cause/);
});

Deno.test("conformance - no service, or no permission, is one clear line, exit code 1", async () => {
  const args = ["-p", `${freePort()}`];
  for (
    const [permissions, words] of [
      [
        ["--allow-net"],
        "nothing listens there; start the server first, and give",
      ],
      [[], "no permission to connect; run this program with --allow-net\n"],
    ] as const
  ) {
    await using script = Script.start(PROGRAM, {
      args,
      permissions: [...permissions],
    });
    const { code, stdout, stderr } = await script.ending();
    assert.match(stderr, /^conformance: no service at 127\.0\.0\.1:.*\n$/);
    assert(stderr.includes(words), stderr);
    assert.equal(stdout, "");
    assert.equal(code, 1);
  }
});

Deno.test({
  name: "conformance - a terminal shows which check is running",
  ignore: !has("python3") || Deno.build.os === "windows",
  async fn() {
    await using server = Script.start(path("wrong/server.ts"), {
      args: ["none"],
    });
    const { port } = await listening(server);
    const command = [...DENO, PROGRAM, `--port=${port}`, "--only=pause"];
    await using script = Script.command(command, { wrapper: TERMINAL });
    await script.stdoutMatch(/pause {2}a client that pauses .* …/);
    await script.stdoutMatch(/✓ pause/);
  },
});

Deno.test("conformance - a cause is told once, and what was not asked is one line", async () => {
  const greets = await run(
    "greets each client",
    "--only uppercase --only crlf",
  );
  assert.equal(greets.stdout.match(/nobody asked for/g)!.length, 1);
  assert.match(greets.stdout, /^✗ crlf .*cause as for uppercase\)$/m);
  const dead = await run("never flushes", "");
  assert.equal(dead.stdout.match(/^✗/gm)!.length, 1);
  assert.match(
    dead.stdout,
    /^- not asked, no answer any more since uppercase:/m,
  );
  assert(dead.stdout.split("\n").every((line) => line.length < 100));
});

Deno.test("conformance - wrong usage is one line, exit code 2", async (t) => {
  const mistakes = [
    "--port=0, --port=1e3, -p=, --port=65536, --port, --timeout=0",
    "--timeout=soon, --only=nothing, --hostname=, --nonsense, stray",
  ].join(", ").split(", ");
  for (const mistake of mistakes) {
    await t.step(mistake, async () => {
      await using script = Script.start(PROGRAM, { args: [mistake] });
      const { code, stdout, stderr } = await script.ending();
      assert.match(stderr, /^conformance: .*--help.*\n$/);
      assert.equal(stdout, "");
      assert.equal(code, 2);
    });
  }
});
