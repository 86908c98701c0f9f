// SPDX-License-Identifier: 0BSD

// Runs lib's checks against clients that are right and clients that are wrong in
// one way, and holds them to finding just that.

import assert from "node:assert/strict";
import { join } from "node:path";
import {
  type ClientCase,
  clientCause,
  type Expected,
} from "../lib/checker/client_causes.ts";
import { clientChecks } from "../lib/checker/client_checks.ts";
import { conformClient, type Report } from "../lib/conformance.ts";
import { run, Script } from "../lib/parts/process.ts";
import { within } from "../lib/parts/waits.ts";
import { freePort, has, PEERS, testSteps } from "./machine.ts";
import { OTHER_CLIENTS } from "./other_clients.ts";
import { CLIENT, expectExit, ROOT } from "./pair.ts";

const SHORT = join(ROOT, "lib/short/client.ts");
const DENO = [Deno.execPath(), "run", "--allow-net"];
const TEXTBOOK = "sends one line and prints one reply";

/** A client in Python that prints without a flush. */
const PRINTS = `
import socket, sys, threading
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def send():
    for line in sys.stdin:
        s.sendall(line.encode())
    s.shutdown(socket.SHUT_WR)
threading.Thread(target=send, daemon=True).start()
screen = open(1, "w") # as print() does, whatever PYTHONUNBUFFERED says
for reply in s.makefile():
    screen.write(reply)`;

/** A client, and what the checks have to say of it. */
interface Row {
  /** How it is started; PORT becomes the port. */
  command: string[];
  /** The checks that it is asked. */
  asked: string;
  /** Those of them that it does not keep, in their order. */
  breaks: string;
  /** Words from each cause that is told. */
  cause?: RegExp;
  /** It is a textbook's client, which never meant to keep them. @default false */
  oneReply?: boolean;
}

/** What a client's first session tells, and line after line. */
const FEW = "connects line interactive end-of-input end conversation";

const { nc, python3, java } = OTHER_CLIENTS;
const ORDINARY: Record<string, Row> = {
  "nc": {
    command: nc("PORT"),
    asked: clientChecks.map(({ name }) => name).join(" "),
    breaks: "",
  },
  "Node": {
    command: ["node", `${PEERS}/client.mjs`, "PORT"],
    asked: `${FEW} several-lines half-close both-ways nobody-listens letters`,
    breaks: "",
  },
  "Python, which reads all of its input first": {
    command: python3("PORT"),
    asked: `${FEW} half-close both-ways`,
    breaks: "line interactive both-ways",
    cause: /only at the end of input|no reply before the end|until all is sent/,
  },
  "Java, which sends all of its input first": {
    command: java("PORT"),
    asked: "line interactive end half-close both-ways",
    breaks: "interactive both-ways",
    cause: /no reply before the end|until all is sent/,
  },
  "Python, whose output waits in a buffer": {
    command: ["python3", "-c", PRINTS, "PORT"],
    asked: `${FEW} half-close both-ways`,
    breaks: "",
  },
};

/**
 * Faults of `wrong/client.ts`, the checks that have to find each, and words from
 * each cause that is told.
 */
const FAULTS: Record<string, [breaks: string, cause?: RegExp]> = {
  [TEXTBOOK]: ["conversation several-lines replies-alone"],
  "loses line ends": ["line", /the line end is lost/],
  "reads nothing until all is sent": [
    "interactive both-ways",
    /no reply before the end|until all is sent/,
  ],
  "never ends its sending side": ["end-of-input", /SHUT_WR/],
  "does not see the end of the replies": ["end server-closes", /does not see/],
  "prints null without end": [
    "end server-closes no-line-end",
    /does not see|more than the replies/,
  ],
  "ends with exit code 1": ["end", /another exit code/],
  "sends its first line alone": ["conversation", /its first line alone/],
  "prints its last reply again": ["conversation", /printed again/],
  "prints one line of each read": ["several-lines", /one line of several/],
  "takes a reply for a format": ["untouched", /for a format/],
  "reads once for each line": ["pieces", /any number of packets/],
  "gives up after 2 s": ["slow-reply", /long enough/],
  "closes at the end of input": ["half-close", /whole connection/],
  "goes on after a reset": ["server-resets", /does not see/],
  "ends with 0 if nobody listens": ["nobody-listens", /exit\(1\)/],
  "prints a label": ["replies-alone", /more than the replies/],
  "takes a zero byte for the end": ["zero-byte", /zero bytes, too/],
  "adds a line end": ["no-line-end", /more than the replies/],
  "sends Latin-1": ["letters", /another encoding/],
};

const WRONG = Object.entries(FAULTS).map((
  [fault, [breaks, cause]],
): [string, Row] => [fault, {
  command: [...DENO, `${import.meta.dirname}/wrong/client.ts`, fault, "PORT"],
  // On a busy machine other checks may take 2 s.
  asked: fault === "gives up after 2 s" ? breaks : `${breaks} ${FEW}`,
  breaks,
  cause,
  oneReply: fault === TEXTBOOK,
}]);

/** Asks a client, on a free port. Many clients share the machine. */
function ask(command: string[], checks: typeof clientChecks): Promise<Report> {
  const address = { hostname: "127.0.0.1", port: 0 };
  const options = { checks, timeout: 2.5, budget: 300 };
  return conformClient(command, address, options);
}

/** Throws unless the checks say of a client just what is to be said. */
async function judge(row: Row): Promise<void> {
  const { command, breaks, cause, asked, oneReply = false } = row;
  const names = asked.split(" ");
  const checks = clientChecks.filter(({ name }) => names.includes(name));
  const report = await ask(command, checks);
  const found = report.results.filter(({ outcome }) => outcome !== "kept");
  assert.equal(found.map(({ name }) => name).join(" "), breaks);
  assert.equal(report.oneReply, oneReply);
  for (const { outcome, sent, came, usualCause } of found) {
    if (outcome !== "broken") continue;
    assert(sent && came);
    assert.match(usualCause!, cause!);
  }
}

testSteps(
  "client checks - a right client in any language keeps them all, and a wrong one breaks just those of its fault",
  12,
  [...Object.entries(ORDINARY), ...WRONG].map(([name, row]) => ({
    name,
    ignore: row.command[0] !== DENO[0] && !has(row.command[0]),
    fn: () => judge(row),
  })),
);

Deno.test("client checks - both clients of the house keep each of them", async (t) => {
  const files = { "client.ts": [CLIENT, "--port"], "short/client.ts": [SHORT] };
  const asked = Object.entries(files).map(async ([file, args]) => {
    const report = await ask([...DENO, ...args, "PORT"], clientChecks);
    assert.equal(report.results.length, clientChecks.length);
    return report.results.map((result) => ({ ...result, file }));
  });
  const results = (await Promise.all(asked)).flat();
  for (const { file, name, promise, outcome, came } of results) {
    await t.step(`${file}, ${name}: ${promise}`, () => {
      assert.equal(outcome, "kept", came);
    });
  }
});

Deno.test("client checks - each of them finds a wrong client", () => {
  const found = WRONG.flatMap(([, { breaks }]) => breaks.split(" "));
  for (const { name } of clientChecks) {
    // Without a connection nothing is asked: that is one line, below.
    assert(name === "connects" || found.includes(name), name);
  }
});

// ---------------------------------------------------------------------- causes

/** What a client does for "a line\n", typed to its end, and the cause that is told. */
const CAUSES: [cause: RegExp, expected: Expected, it: Partial<ClientCase>][] = [
  [/needs a terminal/, "send", { errors: "open /dev/tty: No such device" }],
  [/end of its input for a line/, "send", {
    inputEnded: true,
    arrived: "a line\nnull\n",
  }],
  [/end of its input for a line/, "end input", {
    inputEnded: true,
    arrived: "a line\na line\n",
  }],
  [/another encoding/, "send", { arrived: "\0a\0 \0l\0i\0n\0e" }],
  [/a length before the text/, "send", { arrived: "\0\x06a line" }],
  [/a length before the text/, "send", { arrived: "\x07\0\0\0a line\n" }],
  [/buffer is sent whole/, "send", { arrived: "a line\n\0\0\0\0" }],
  [/prints an object/, "print", { printed: "[B@1b6d3586\n" }],
  [/only at the end of input/, "send", {
    inputEnded: true,
    arrived: "a line\r\n",
  }],
  [/its first line alone/, "send", { typed: "a\nb\n", arrived: "a\n" }],
  [/an empty line is/, "send", { typed: "a\nb\n\nc\n", arrived: "a\nb\n" }],
  [/an empty line is/, "send", { typed: "a\n\nb\n", arrived: "a\nb\n" }],
  [/line end is lost/, "send", { arrived: "a line" }],
  [/another encoding/, "send", { typed: "è\n", arrived: "\uFFFD\n" }],
  [/it sends nothing/, "send", {}],
  [/not what was typed/, "send", { arrived: "a lin" }],
  [/one line of several/, "print", { replies: ["A\n\nB\n"], printed: "A\n" }],
  [/empty lines, are lost/, "print", { replies: ["A\n\nB\n"], printed: "AB" }],
  [/before the end/, "print", { printed: "A LINE\n" }],
  [/until all is sent/, "print", { typed: "a".repeat(2e6) }],
  [/loses bytes/, "print", { typed: "a".repeat(2e6), printed: "A" }],
  [/whole connection/, "print", { late: true }],
  [/another encoding/, "print", {
    typed: "è\n",
    replies: ["È\n"],
    printed: "?",
  }],
  [/line end that does not come/, "print", { replies: ["A LINE"] }],
  [/long enough/, "print", { typed: "a slow reply\n" }],
  [/for a format/, "print", { typed: "5 %x\n", printed: "5 7f" }],
  [/ends before all is printed/, "print", {
    code: 0,
    printed: "A".repeat(65_536),
  }],
  [/it reads once/, "print", { replies: ["A", " LINE\n"], printed: "A" }],
  [/it reads once, or only what is/, "print", { code: 0 }],
  [/waits for more than came/, "print", {}],
  [/printed again/, "print that alone", { printed: "A LINE\nA LINE\n" }],
  [/more than the replies/, "print that alone", { printed: "> A LINE\n" }],
  [/before the end/, "end input", {}],
  [/before the end/, "send", { arrived: "a li", replies: ["A LINE\n"] }],
  [/SHUT_WR/, "end input", { printed: "A LINE\n" }],
  [/does not see/, "end", {}],
  [/another exit code/, "end", { code: 1 }],
];

Deno.test("client checks - a cause for each kind of fault", () => {
  for (const [cause, expected, it] of CAUSES) {
    const all: ClientCase = {
      typed: "a line\n",
      inputEnded: false,
      arrived: expected === "send" ? "" : "a line\n",
      replies: expected === "send" ? [] : ["A LINE\n"],
      late: false,
      printed: "",
      errors: "",
      ...it,
    };
    const told = clientCause(expected, all, new Set());
    assert.match(told, cause, JSON.stringify([expected, it]));
  }
});

// ----------------------------------------------------------------- the program

Deno.test("client checks - what cannot be asked is one clear line", async (t) => {
  const rows: [typed: string, says: RegExp, code: number, may?: string[]][] = [
    ["--", /needs a command behind --/, 2],
    ["nc -- nc PORT", /'nc'/, 2],
    ["-- nc 127.0.0.1", /write PORT in the command/, 2],
    ["--only uppercase -- nc PORT", /"uppercase" is no check/, 2],
    ["-- no-such-program PORT", /no-such-program/, 1],
    ["-- deno PORT", /--allow-run/, 1, ["--allow-net"]],
    ["-- deno PORT.ts", /made no connection .* says ".*not found/i, 1],
  ];
  for (const [typed, says, code, permissions] of rows) {
    await t.step(typed, async () => {
      const exit = await run(start(typed.split(" "), permissions));
      expectExit(exit, { code, stdout: "", stderr: /^conformance: [^\n]*\n$/ });
      assert.match(exit.stderr, says);
    });
  }
});

Deno.test("client checks - a port that is fixed, one verdict as lib/README.md shows it", async () => {
  const page = await Deno.readTextFile(join(ROOT, "lib/README.md"));
  const port = `${freePort()}`;
  const options = "--only line --only conversation";
  const wrong = ["tests/wrong/client.ts", "loses line ends", port];
  const { code, stdout } = await run(
    start(["--port", port, ...options.split(" "), "--", ...DENO, ...wrong]),
  );
  assert(page.includes(stdout), stdout);
  assert.equal(code, 1);
});

Deno.test(
  "client checks - nothing that a client has started is left, nor if the checker is stopped",
  {
    ignore: !["bash", "pkill", "timeout"].every(has),
  },
  async () => {
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr;
    const script =
      'timeout 1000 sleep 1000 <> /dev/tcp/127.0.0.1/$0 > /dev/null 2>&1 & exec "$@"';
    const right = [...DENO, CLIENT, "--port", "PORT"];
    for (const client of [right, ["sleep", "1000"]]) {
      const command = ["bash", "-c", script, `${port}`, ...client];
      await using checker = start([
        "--port=1234",
        "--only=line",
        "--",
        ...command,
      ]);
      using connection = await listener.accept();
      if (client !== right) checker.kill("SIGTERM");
      await checker.exit();
      const ended = await within(20, connection.read(new Uint8Array(1)));
      assert.equal(ended, null, "the client's own child still runs");
    }
  },
);

/** Starts the program with a client, from the top folder. */
function start(
  args: string[],
  permissions = ["--allow-net", "--allow-run"],
): Script {
  const options = { args: ["--client", ...args], permissions, cwd: ROOT };
  return Script.start(join(ROOT, "lib/conformance.ts"), options);
}
