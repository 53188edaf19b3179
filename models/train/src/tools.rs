//! Examples of tool calls: a pool of tools, what people say to have them called, what comes back.

use crate::grammar::{Words, expand};
use crate::random::Random;
use anyhow::Result;
use serde_json::{Map, Value, json};

/// A tool of the pool. In the texts `$1` and `$2` are the values of its parameters.
struct Tool {
    name: &'static str,
    about: &'static str,
    parameters: &'static [(&'static str, &'static str, Values)],
    asks: &'static [&'static str],
    /// What the tool returns; `$r` is a number that is drawn.
    returns: &'static str,
    /// What the model then says.
    says: &'static str,
}

#[derive(Clone, Copy)]
enum Values {
    City,
    Model,
    Number,
    Thing,
    File,
    Person,
}

impl Values {
    fn draw(self, random: &mut Random) -> Value {
        const CITIES: &str = "Paris|London|Berlin|Tokyo|Rome|Madrid|Oslo|Vienna|Cairo|Lima|Delhi|\
            Boston|Chicago|Dublin|Prague|Athens|Warsaw|Lisbon|Bern|Kyoto|Sydney|Toronto|Hamburg|\
            Munich|Milan|Porto|Seoul|Nairobi|Quito|Havana|Denver|Geneva|New York|Cape Town";
        const MODELS: &str = "llama3|qwen3|gemma2|mistral|phi3|demo|llama3.2|qwen2.5|gemma3|\
            granite|olmo2|falcon|smollm|mixtral|deepseek|tinyllama";
        const THINGS: &str = "milk|bread|a birthday|the meeting|cats|the garden|music|a recipe|\
            the train|rust|shoes|books|the dentist|flowers|tea|apples|a present|the letter";
        const FILES: &str = "notes.txt|todo.md|config.yaml|main.rs|letter.txt|data.csv|report.md|\
            list.txt|README.md|log.txt|plan.md|names.csv";
        const PEOPLE: &str = "Anna|Ben|Clara|David|Emma|Felix|Greta|Hugo|Ida|Jonas|Karl|Lena|\
            Mark|Nina|Otto|Paul|Rosa|Sven|Tina|Vera";
        let list = match self {
            Self::Number => return json!(1 + random.below(60)),
            Self::City => CITIES,
            Self::Model => MODELS,
            Self::Thing => THINGS,
            Self::File => FILES,
            Self::Person => PEOPLE,
        };
        let all: Vec<&str> = list.split('|').collect();
        json!(*random.pick(&all))
    }

    fn schema(self) -> &'static str {
        if matches!(self, Self::Number) { "integer" } else { "string" }
    }
}

const POOL: &[Tool] = &[
    Tool {
        name: "get_weather",
        about: "Get the weather of a city",
        parameters: &[("city", "The city", Values::City)],
        asks: &[
            "[What is|How is|What's] the weather [in|like in] $1?",
            "[Weather in $1|Is it cold in $1?|Will it rain in $1?|Do I need a coat in $1?]",
            "[Tell me|Get|Check|Look up] the weather [in|of|for] $1.",
        ],
        returns: "{\"temperature\": $r}",
        says: "It is $r degrees in $1.",
    },
    Tool {
        name: "get_time",
        about: "Get the time in a city",
        parameters: &[("city", "The city", Values::City)],
        asks: &["[What time is it|What is the time|How late is it|What's the time] in $1?"],
        returns: "{\"hour\": $r}",
        says: "It is $r o'clock in $1.",
    },
    Tool {
        name: "list_models",
        about: "List the models on the disk",
        parameters: &[],
        asks: &["[Call the tool that lists|List|Use a tool to list] [my|the|all] models."],
        returns: "{\"count\": $r}",
        says: "There are $r models on the disk.",
    },
    Tool {
        name: "pull_model",
        about: "Download a model",
        parameters: &[("model", "The name of the model", Values::Model)],
        asks: &["[Download|Pull|Get me|Fetch] [the model |]$1[.| for me.|, please.]"],
        returns: "{\"status\": \"ok\", \"seconds\": $r}",
        says: "The model $1 is downloaded. It took $r seconds.",
    },
    Tool {
        name: "set_timer",
        about: "Set a timer",
        parameters: &[("minutes", "How many minutes", Values::Number)],
        asks: &["[Set|Start] a timer [for|of] $1 minutes.", "Wake me in $1 minutes."],
        returns: "{\"status\": \"ok\"}",
        says: "The timer is set to $1 minutes.",
    },
    Tool {
        name: "add",
        about: "Add two numbers",
        parameters: &[
            ("a", "The first number", Values::Number),
            ("b", "The second number", Values::Number),
        ],
        asks: &["[What is|Calculate|How much is|Compute] $1 [+|plus|and] $2?", "Add $1 and $2."],
        returns: "{\"sum\": $r}",
        says: "The sum is $r.",
    },
    Tool {
        name: "read_file",
        about: "Read a file",
        parameters: &[("path", "The path of the file", Values::File)],
        asks: &["[Read|Open|Show me|What is in] [the file |]$1[.|?]"],
        returns: "{\"lines\": $r}",
        says: "The file $1 has $r lines.",
    },
    Tool {
        name: "search",
        about: "Search the notes",
        parameters: &[("query", "What to look for", Values::Thing)],
        asks: &["[Search for|Look for|Search my notes for|Find something about] $1."],
        returns: "{\"hits\": $r}",
        says: "I found $r notes about $1.",
    },
    Tool {
        name: "send_message",
        about: "Send a message to a person",
        parameters: &[
            ("to", "Who gets it", Values::Person),
            ("text", "The message", Values::Thing),
        ],
        asks: &["[Send|Write] [a message to $1|$1 a message] about $2.", "Tell $1 about $2."],
        returns: "{\"status\": \"ok\"}",
        says: "I sent $1 a message about $2.",
    },
    Tool {
        name: "add_note",
        about: "Write a note",
        parameters: &[("text", "The note", Values::Thing)],
        asks: &["[Make a note about|Note|Remind me of|Put on my list:|Write down] $1."],
        returns: "{\"id\": $r}",
        says: "I made a note: $1.",
    },
    Tool {
        name: "find_phone",
        about: "Look up the phone number of a person",
        parameters: &[("name", "The name of the person", Values::Person)],
        asks: &["[What is|Find|Look up|I need] the [phone number|number] of $1[?|.]"],
        returns: "{\"number\": $r}",
        says: "The number of $1 is $r.",
    },
];

/// A tool as a request names it.
fn described(tool: &Tool) -> Value {
    let property = |(name, about, values): &(&str, &str, Values)| {
        ((*name).to_owned(), json!({"type": values.schema(), "description": about}))
    };
    let properties: Map<String, Value> = tool.parameters.iter().map(property).collect();
    let required: Vec<&str> = tool.parameters.iter().map(|p| p.0).collect();
    json!({"type": "function", "function": {"name": tool.name, "description": tool.about,
        "parameters": {"type": "object", "properties": properties, "required": required}}})
}

/// One exchange with tools.
pub struct Call {
    pub tools: Vec<Value>,
    pub question: String,
    pub call: Value,
    pub result: String,
    pub answer: String,
}

/// Some tools, none of which need be called.
pub fn some(random: &mut Random) -> Vec<Value> {
    let mut order: Vec<usize> = (0..POOL.len()).collect();
    random.shuffle(&mut order);
    order.truncate(1 + random.below(3));
    order.iter().map(|i| described(&POOL[*i])).collect()
}

/// A question, the call that answers it, what came back and what is said then.
pub fn call(random: &mut Random) -> Result<Call> {
    let mut order: Vec<usize> = (0..POOL.len()).collect();
    random.shuffle(&mut order);
    order.truncate(1 + random.below(3));
    let tool = &POOL[*random.pick(&order)];
    let drawn: Vec<Value> = tool.parameters.iter().map(|p| p.2.draw(random)).collect();
    let result = (2 + random.below(40)).to_string();
    let fill = |text: &str| {
        let mut text = text.replace("$r", &result);
        for (i, v) in drawn.iter().enumerate() {
            let v = v.as_str().map_or_else(|| v.to_string(), str::to_owned);
            text = text.replace(&format!("${}", i + 1), &v);
        }
        text
    };
    let names = tool.parameters.iter().map(|p| p.0.to_owned());
    let arguments: Map<String, Value> = names.zip(drawn.iter().cloned()).collect();
    Ok(Call {
        tools: order.iter().map(|i| described(&POOL[*i])).collect(),
        question: fill(&expand(random.pick::<&str>(tool.asks), &Words::new(), random)?),
        call: json!({"name": tool.name, "arguments": arguments}),
        result: fill(tool.returns),
        answer: fill(tool.says),
    })
}
