// openai-js against the server (line 51).

import OpenAI from "openai";
import { assert, check, main, refused, url } from "./check.mjs";

const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "unused", maxRetries: 0 });
const model = "demo";
const messages = [{ role: "user", content: "How do I start the server?" }];
const ask = { model, messages, temperature: 0 };

check("51", "chat, whole and as a stream, says the same", async () => {
  const whole = await client.chat.completions.create(ask);
  const stream = await client.chat.completions.create({
    ...ask,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  let usage = null;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert(text === whole.choices[0].message.content && text.length > 0);
  assert(usage.completion_tokens === whole.usage.completion_tokens);
  const final = await client.chat.completions.stream(ask).finalContent();
  assert(final === text);
});

check("51", "tools are called and run", async () => {
  const parameters = {
    type: "object",
    properties: { city: { type: "string", description: "The city" } },
    required: ["city"],
  };
  const tool = { name: "get_time", description: "Get the time in a city", parameters };
  const asked = [{ role: "user", content: "What time is it in Berlin?" }];
  const tools = [{ type: "function", function: tool }];
  const answer = await client.chat.completions.create({
    ...ask,
    messages: asked,
    tools,
    tool_choice: "required",
  });
  assert(JSON.parse(answer.choices[0].message.tool_calls[0].function.arguments).city);
  let ran = 0;
  const run = (city) => {
    ran += 1;
    return `{"hour": ${city.length}}`;
  };
  const runnable = { type: "function", function: { ...tool, parse: JSON.parse, function: run } };
  const runner = client.chat.completions.runTools(
    { ...ask, messages: asked, tools: [runnable] },
    { maxChatCompletions: 3 },
  );
  const content = await runner.finalContent();
  assert(ran >= 1 && typeof content === "string");
});

check("51", "a form is kept to", async () => {
  const schema = {
    type: "object",
    required: ["good"],
    properties: { good: { type: "boolean" } },
    additionalProperties: false,
  };
  const response_format = {
    type: "json_schema",
    json_schema: { name: "pet", schema, strict: true },
  };
  const answer = await client.chat.completions.parse({ ...ask, response_format });
  assert(typeof answer.choices[0].message.parsed.good === "boolean");
});

check("51", "responses, whole and as a stream, say the same", async () => {
  const request = { model, input: messages[0].content, temperature: 0 };
  const whole = await client.responses.create(request);
  let text = "";
  let last = "";
  for await (const event of await client.responses.create({ ...request, stream: true })) {
    if (event.type === "response.output_text.delta") text += event.delta;
    last = event.type;
  }
  assert(text === whole.output_text && text.length > 0 && last === "response.completed");
});

check("51", "completions, embeddings and models", async () => {
  const answer = await client.completions.create({
    model,
    prompt: "Once upon a time",
    max_tokens: 5,
  });
  assert(answer.choices[0].text.length > 0);
  const made = await client.embeddings.create({ model, input: ["a", "b"] });
  assert(made.data.length === 2 && Math.abs(Math.hypot(...made.data[0].embedding) - 1) < 1e-4);
  const names = [];
  for await (const listed of client.models.list()) names.push(listed.id);
  assert(names.includes("demo:latest"));
});

check("51", "errors are of the client's own kinds", async () => {
  const absent = await refused(client.chat.completions.create({ ...ask, model: "no-such-model" }));
  assert(absent instanceof OpenAI.NotFoundError && absent.type === "not_found_error", absent);
  const wrong = await refused(client.chat.completions.create({ ...ask, temperature: -1 }));
  assert(wrong instanceof OpenAI.BadRequestError && wrong.error.message, wrong);
});

check("51", "a stream is aborted", async () => {
  const stream = await client.chat.completions.create({ ...ask, stream: true });
  for await (const _ of stream) break;
  assert(stream.controller.signal.aborted);
});

main();
