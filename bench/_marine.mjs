// Marine in Node for bench/fce.py: `node _marine.js FOLDER MODULE.wasm`, FOLDER has node_modules/@fluencelabs/marine-js.
// Takes lines {"name", "arguments", "times"} and answers each with {"us"} for a call, after it has checked the result.
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [folder, path] = process.argv.slice(2);
const home = `${folder}/node_modules/@fluencelabs/marine-js/dist`;
const load = (name) => import(pathToFileURL(`${home}/${name}.js`).href);
const [{ MarineService }, { defaultCallParameters }] = await Promise.all([load("MarineService"), load("types")]);

const control = await WebAssembly.compile(await readFile(`${home}/marine-js.wasm`));
const config = {
  logger_enabled: false,
  logging_mask: 0,
  wasi: { envs: {}, preopened_files: new Set(), mapped_dirs: new Map() },
};
const service = new MarineService(
  control, "bench", () => {}, { modules_config: [{ import_name: "kit", config }] },
  { kit: new Uint8Array(await readFile(path)) }, {},
);
await service.init();
console.log(JSON.stringify({ ready: true }));

for await (const line of createInterface({ input: process.stdin })) {
  const { name, arguments: given, times } = JSON.parse(line);
  const began = performance.now();
  let result;
  for (let i = 0; i < times; i++) result = service.call(name, given, defaultCallParameters);
  console.log(JSON.stringify({ us: ((performance.now() - began) * 1000) / times, result }));
}
