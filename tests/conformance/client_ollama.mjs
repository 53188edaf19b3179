// ollama-js against the server (line 53).

import { Ollama } from "ollama";
import { assert, check, main, refused, url } from "./check.mjs";

const ollama = new Ollama({ host: url });
const model = "demo";
const messages = [{ role: "user", content: "How do I start the server?" }];
const options = { temperature: 0 };

async function all(stream) {
  const parts = [];
  for await (const part of await stream) parts.push(part);
  return parts;
}

check("53", "chat and generate, whole and as a stream, say the same", async () => {
  const whole = await ollama.chat({ model, messages, options });
  const parts = await all(ollama.chat({ model, messages, options, stream: true }));
  assert(parts.map((p) => p.message.content).join("") === whole.message.content);
  assert(parts.at(-1).done && parts.at(-1).done_reason === "stop");
  const prompt = messages[0].content;
  const text = await ollama.generate({ model, prompt, options });
  const pieces = await all(ollama.generate({ model, prompt, options, stream: true }));
  assert(pieces.map((p) => p.response).join("") === text.response && text.response.length > 0);
});

check("53", "a tool is called and its result goes back", async () => {
  const parameters = {
    type: "object",
    required: ["city"],
    properties: { city: { type: "string", description: "The city" } },
  };
  const tool = {
    type: "function",
    function: { name: "get_time", description: "Get the time in a city", parameters },
  };
  const asked = [{ role: "user", content: "What time is it in Berlin?" }];
  const first = await ollama.chat({ model, messages: asked, tools: [tool], options });
  const call = first.message.tool_calls?.[0];
  assert(
    call?.function.name === "get_time" && typeof call.function.arguments.city === "string",
    first,
  );
  const result = { role: "tool", content: '{"hour": 7}', tool_name: "get_time" };
  const final = await ollama.chat({
    model,
    messages: [...asked, first.message, result],
    tools: [tool],
    options,
  });
  assert(final.message.content.length > 0);
});

check("53", "thoughts are told apart, and a form is kept to", async () => {
  const thought = await ollama.chat({ model, messages, think: true, options });
  assert(thought.message.thinking && thought.message.content);
  const format = {
    type: "object",
    required: ["good"],
    properties: { good: { type: "boolean" } },
    additionalProperties: false,
  };
  const formed = await ollama.chat({ model, messages, format, options });
  assert(typeof JSON.parse(formed.message.content).good === "boolean");
});

check("53", "embed, show, ps, list and version are read", async () => {
  assert((await ollama.embed({ model, input: ["a", "b"] })).embeddings.length === 2);
  const shown = await ollama.show({ model });
  assert(
    shown.capabilities.includes("completion") &&
      shown.model_info["general.architecture"] === "llama",
  );
  assert((await ollama.ps()).models.some((m) => m.name === "demo:latest"));
  assert(Array.isArray((await ollama.list()).models));
  assert(/^\d+\.\d+\.\d+/.test((await ollama.version()).version));
});

check("11,53", "an absent model is 404, with its words", async () => {
  const error = await refused(ollama.chat({ model: "no-such-model", messages }));
  assert(error.status_code === 404 && error.message === "model 'no-such-model' not found", error);
});

check("53", "a stream is aborted", async () => {
  const long = { num_predict: 100000, temperature: 3 };
  const stream = await ollama.generate({
    model,
    prompt: "Once upon a time",
    raw: true,
    options: long,
    stream: true,
  });
  const error = await refused(
    (async () => {
      let n = 0;
      for await (const _ of stream) if (++n === 3) stream.abort();
    })(),
  );
  assert(error.name === "AbortError", error);
});

main();
