// The way from bytes to the module's verdict; the page and the tests use this same text.
// Resolves to a function of a receipt (bytes) and a key (text) that returns the verdict as JSON text.
async function countersignModule(bytes) {
  const { instance } = await WebAssembly.instantiate(bytes, {});
  const { memory, input, verify, output_bytes: outputBytes } = instance.exports;
  return (receipt, key) => {
    const keyBytes = new TextEncoder().encode(key);
    const at = input(receipt.length, keyBytes.length);
    if (at === 0) {
      return JSON.stringify({ verified: false, error: 'receipt or key is too large' });
    }
    // Looked at anew each time: the memory moves when it grows.
    const room = new Uint8Array(memory.buffer, at, receipt.length + keyBytes.length);
    room.set(receipt, 0);
    room.set(keyBytes, receipt.length);
    const answer = verify();
    return new TextDecoder().decode(new Uint8Array(memory.buffer, answer, outputBytes()));
  };
}
