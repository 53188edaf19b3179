// Checks in JavaScript: as check.py has them.

export const url = process.env.OPREL_URL ?? "http://127.0.0.1:11434";
const limit = Number(process.env.OPREL_CHECK_SECONDS ?? 60) * 1000;
const checks = [];

export function check(lines, says, run) {
  checks.push({ lines, says, run });
}

export function assert(truth, message = "is not so") {
  if (!truth) throw new Error(typeof message === "string" ? message : JSON.stringify(message));
}

// The error with which a promise is refused.
export async function refused(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("not refused");
}

export async function main() {
  const words = process.argv.slice(2);
  let failed = false;
  for (const { lines, says, run } of checks) {
    if (words.length && !words.some((w) => says.includes(w) || lines.split(",").includes(w)))
      continue;
    let outcome = "ok";
    let why = "";
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`not done after ${limit} ms`)), limit);
    });
    try {
      await Promise.race([run(), late]);
    } catch (error) {
      failed = true;
      outcome = "FAIL";
      why = `: ${process.env.OPREL_TRACE ? error.stack : error}`;
    }
    clearTimeout(timer);
    console.log(`${outcome.padEnd(4)} ${lines.padEnd(8)} ${says}${why}`.replaceAll("\n", " "));
  }
  process.exit(failed ? 1 : 0);
}
