// The way from bytes to the module's verdict; the page and the tests use this same text.
// Resolves to a function of a receipt (bytes), a key and a list of keys (texts, the list may be empty) that returns the verdict as JSON text.
async function countersignModule(bytes) {
  const { instance } = await WebAssembly.instantiate(bytes, {});
  const { memory, input, verify, output_bytes: outputBytes } = instance.exports;
  return (receipt, key, keys) => {
    const parts = [receipt, new TextEncoder().encode(key), new TextEncoder().encode(keys)];
    const at = input(...parts.map((part) => part.length));
    if (at === 0) {
      return JSON.stringify({ verified: false, error: 'receipt, key or list of keys is too large' });
    }
    // Looked at anew each time: the memory moves when it grows.
    const room = new Uint8Array(memory.buffer, at, parts.reduce((sum, part) => sum + part.length, 0));
    let place = 0;
    for (const part of parts) {
      room.set(part, place);
      place += part.length;
    }
    const answer = verify();
    return new TextDecoder().decode(new Uint8Array(memory.buffer, answer, outputBytes()));
  };
}
