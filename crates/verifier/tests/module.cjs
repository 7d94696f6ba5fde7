// Runs the module in Node with the page's own script: node module.cjs VERIFIER.JS MODULE.WASM < CASES.JSON
const fs = require('node:fs');
const vm = require('node:vm');

const [script, wasm] = process.argv.slice(2);
const context = vm.createContext({ TextEncoder, TextDecoder, Uint8Array, WebAssembly });
vm.runInContext(fs.readFileSync(script, 'utf8'), context);
context.bytes = fs.readFileSync(wasm);
vm.runInContext('countersignModule(bytes)', context).then((judge) => {
  const asked = JSON.parse(fs.readFileSync(0, 'utf8'));
  const answers = asked.map(({ receipt, key, keys }) => judge(Buffer.from(receipt, 'base64'), key, keys));
  process.stdout.write(JSON.stringify(answers));
});
