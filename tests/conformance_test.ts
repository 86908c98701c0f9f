// SPDX-License-Identifier: 0BSD

// Runs lib's checks against servers that are right and servers that are wrong
// in one way, and holds them to finding just that.

import assert from "node:assert/strict";
import { checks, conform, type Report } from "../lib/conformance.ts";
import { type Ending, listening, Script } from "../lib/parts/process.ts";

const folder = new URL(".", import.meta.url);
const PROGRAM = path("../lib/conformance.ts");
const SERVER = path("../server.ts");

function path(name: string): string {
  return decodeURIComponent(new URL(name, folder).pathname)
    .replace(/^\/([A-Z]:)/, "$1"); // Windows
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
}

async function report(run: Run): Promise<Report> {
  await using script = Script.command(run.command);
  const port = run.ready
    ? Number((await script.stderrMatch(run.ready))[1])
    : (await listening(script)).port;
  return await conform({ hostname: "127.0.0.1", port }, { timeLimit: 2500 });
}

/**
 * Five servers at a time: most of what wrong ones take is waiting. Settled, so
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
  for (let count = 0; count < 5; count++) work();
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

/** Whether a program that a test needs is installed. */
function installed([program, ...args]: string[]): boolean {
  try {
    return new Deno.Command(program!, { args, stdout: "null", stderr: "null" })
      .outputSync().success;
  } catch {
    return false;
  }
}

// ----------------------------------------------------------------- right servers

interface Peer extends Run {
  name: string;
  /** A command that succeeds where the server can be started. */
  needs: string[];
  /** Checks that it does not keep, and never said it would. */
  notKept?: string[];
}

const PEERS: Peer[] = [
  {
    name: "server.ts",
    command: [Deno.execPath(), ...words("run --allow-net"), SERVER, "--port=0"],
    needs: [Deno.execPath(), "--version"],
  },
  {
    name: "asyncio in Python",
    command: ["python3", path("peers/asyncio.py")],
    needs: ["python3", "--version"],
  },
  {
    name: "streams in Node",
    command: ["node", path("peers/node.mjs")],
    needs: ["node", "--version"],
  },
  {
    name: "a thread for each client in Java",
    command: ["java", path("peers/Threads.java")],
    needs: ["javac", "-version"],
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
    needs: ["socat", "-V"],
    notKept: ["letters", "special"],
  },
];

const TEXTBOOK: Peer = {
  name: "a textbook's server is told apart, and what it keeps is said",
  command: ["java", path("peers/Textbook.java")],
  needs: ["javac", "-version"],
};

Deno.test("conformance - a right server in any language fails no check", async (t) => {
  const here = [...PEERS, TEXTBOOK].filter(({ needs }) => installed(needs));
  const made = reports(here);
  const step = (peer: Peer, judge: (report: Report) => void) => {
    const place = here.indexOf(peer);
    const skipped = place === -1 ? ` (skipped: no ${peer.needs[0]} here)` : "";
    return t.step({
      name: peer.name + skipped,
      ignore: place === -1,
      fn: async () => judge(await made[place]!()),
    });
  };
  for (const peer of PEERS) {
    await step(peer, ({ results, oneReply }) => {
      const wrong = results.filter(({ outcome, name }) =>
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
      words("uppercase untouched interactive hundred never-reads not-text"),
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
  "uppercase untouched several-lines pieces no-line-end crlf conversation " +
  "order half-close half-close-10mb slow-reader two-clients hundred letters " +
  "special cuts first-character";

/**
 * Faults of `wrong/server.ts`, and the checks that have to find each; what
 * takes the longest waits comes first.
 */
const FAULTS: Record<string, string> = {
  "one client at a time": "two-clients hundred never-reads",
  "one client that does not read holds up all": "never-reads",
  "drops the tail at half-close":
    "no-line-end half-close half-close-10mb slow-reader",
  "never closes": "half-close empty",
  "replies at the end only": "interactive",
  "changes line ends": "no-line-end crlf",
  "uppercases letter by letter": "special",
  "uppercases A to Z alone": "letters special",
  "takes a byte order mark away": "first-character",
  "lower-cases": CONTENT,
  "loses line ends": CONTENT,
  "ten clients at a time": "hundred",
  "none": "",
  "cuts characters": "cuts",
  "forgets a last line without line end": "no-line-end",
  "mixes two clients' buffers": "two-clients",
  "stops at 64 KB": "order half-close half-close-10mb slow-reader cuts",
  "closes after the first packet":
    "pieces conversation order half-close half-close-10mb slow-reader two-clients cuts",
  "sends the halves of a long read in turn":
    "order half-close half-close-10mb slow-reader cuts",
  "dies of bytes that are no text": "not-text",
  "dies of an empty connection": "empty",
  "dies of a reset": "reset",
  "dies of an early reset": "early-reset",
};

Deno.test("conformance - a wrong server fails just the checks that its fault breaks", async (t) => {
  const faults = Object.keys(FAULTS);
  const made = reports(faults.map((fault) => ({
    command: [
      Deno.execPath(),
      ...words("run --allow-net"),
      path("wrong/server.ts"),
      fault,
    ],
  })));
  for (const [fault, names] of Object.entries(FAULTS)) {
    const expected = words(names);
    const fn = async () => {
      const report = await made[faults.indexOf(fault)]!();
      assert.deepEqual(notKept(report), expected);
      // A server that has died is asked nothing more, and others everything.
      const names = checks.map(({ name }) => name);
      const after = names.slice(names.indexOf(expected[0]!) + 1);
      assert.deepEqual(notAsked(report), /^dies of/.test(fault) ? after : []);
      for (const { outcome, sent, came, usualCause } of report.results) {
        if (outcome === "broken") assert(sent && came && usualCause);
      }
    };
    await t.step(fault, fn);
  }
});

Deno.test("conformance - every check finds a wrong server", () => {
  const found = new Set(Object.values(FAULTS).flatMap(words));
  const never = checks.filter(({ name }) => !found.has(name));
  assert.deepEqual(never, []);
});

// ---------------------------------------------------------------- the program

/** Runs the program against a wrong server; its ending. */
async function run(fault: string, options: string): Promise<Ending> {
  await using server = Script.start(path("wrong/server.ts"), { args: [fault] });
  const { port } = await listening(server);
  await using script = Script.start(PROGRAM, {
    args: ["--port", String(port), ...words(options)],
  });
  return await script.ending();
}

Deno.test("conformance - --list names every check with its level and promise", async () => {
  await using script = Script.start(PROGRAM, { args: ["--list"] });
  const { code, stdout } = await script.ending();
  assert.equal(code, 0);
  const lines = stdout.trimEnd().split("\n");
  assert.equal(lines.length, checks.length);
  for (const [place, { name, level, promise }] of checks.entries()) {
    assert(lines[place]!.startsWith(name));
    assert(lines[place]!.includes(level));
    assert(lines[place]!.endsWith(promise));
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

Deno.test("conformance - no service at the address is one clear line, exit code 1", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  listener.close();
  await using script = Script.start(PROGRAM, { args: ["-p", String(port)] });
  const { code, stdout, stderr } = await script.ending();
  assert.match(
    stderr,
    /^conformance: no service at 127\.0\.0\.1:[0-9]+: .*\n$/,
  );
  assert.equal(stdout, "");
  assert.equal(code, 1);
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
