//! How models write calls: the marks, and which template shows which.

/// How a model writes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ToolFormat {
    /// `<tool_call>{"name": .., "arguments": ..}</tool_call>`: Hermes, Qwen and many more.
    Tagged,
    /// `{"name": .., "parameters": ..}` and nothing else, perhaps behind `<|python_tag|>`: Llama 3.
    Bare,
    /// `[TOOL_CALLS][{"name": .., "arguments": ..}]`, or `[TOOL_CALLS]name[ARGS]{..}`: Mistral.
    Listed,
    /// `[f(a=1), g(b="x")]` and nothing else: Llama 4.
    Pythonic,
    /// `<|tool_call_start|>[f(a=1)]<|tool_call_end|>`: LFM2.
    PythonTagged,
    /// `f(a=1)` in a block of code that is named `tool_code`: Gemma 3.
    ToolCode,
    /// `f(a=1)`, a line each, between `<function_calls>` and its end: OLMo 3.
    FunctionCalls,
    /// A message to `functions.f` on the channel `commentary`: gpt-oss.
    Harmony,
    /// `<｜tool▁call▁begin｜>function<｜tool▁sep｜>f` and a block of JSON: DeepSeek V2.5, V3, R1.
    DeepSeek,
    /// `<｜tool▁call▁begin｜>f<｜tool▁sep｜>{..}`: DeepSeek V3.1.
    DeepSeekPlain,
    /// `<｜DSML｜invoke name="f">`, argument by argument: DeepSeek V3.2 and V4.
    DeepSeekMarkup,
    /// `<tool_call>f<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>`: GLM 4.5 and later.
    ArgumentTags,
    /// `<tool_call><function=f><parameter=a>1</parameter></function></tool_call>`: Qwen3-Coder,
    /// Seed-OSS, Nemotron 3, Step 3.5.
    ParameterTags,
    /// `<minimax:tool_call><invoke name="f"><parameter name="a">1</parameter></invoke>`: MiniMax M2.
    Invoke,
    /// `<|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{..}<|tool_call_end|>`: Kimi K2.
    Kimi,
    /// `<start_function_call>call:f{a:<escape>x<escape>}<end_function_call>`: FunctionGemma.
    FunctionGemma,
    /// `<|tool_call>call:f{a:<|"|>x<|"|>}<tool_call|>`: Gemma 4.
    Gemma4,
    /// `Action:` and a block of JSON with a list of calls: Command R+.
    ActionBlock,
    /// `<|START_ACTION|>[{"tool_name": .., "parameters": ..}]<|END_ACTION|>`: Command R7B and A.
    Action,
    /// `<TOOLCALL>[{"name": .., "arguments": ..}]</TOOLCALL>`: Nemotron Nano 2.
    ToolCallList,
    /// `<tool_calls>[{"name": .., "arguments": ..}]</tool_calls>`: Apriel.
    ToolCallsList,
    /// `<|tool_call|>[{"name": .., "arguments": ..}]`: Granite 3, Phi-4-mini.
    MarkedList,
    /// `functools[{"name": .., "arguments": ..}]`: Firefunction.
    Functools,
    /// `<|function_call|>{"name": .., "arguments": ..}`: GigaChat.
    FunctionCall,
    /// `<|tools_prefix|>[{"f": {..}}]<|tools_suffix|>`: Apertus.
    Keyed,
    /// `<function=f>{..}</function>`: Functionary 3.1.
    FunctionTag,
    /// `>>>f`, and the arguments on the next line: Functionary 3.2.
    Recipient,
    /// `<|tool_call:begin|>id<|tool_call:name|>f<|tool_call:args|>{..}<|tool_call:end|>`: Solar.
    Fields,
}

/// The marks of a format.
#[derive(Debug)]
pub(super) struct Marks {
    /// Begin a call, or a section of calls.
    pub(super) opens: &'static [&'static str],
    /// Stand between and behind calls; they are nobody's text.
    pub(super) closes: &'static [&'static str],
    /// Stand within calls, where they may be tokens of their own.
    within: &'static [&'static str],
}

/// `opens; closes; within`, of which the last may be left out.
macro_rules! marks {
    ($($open:literal),*; $($close:literal),* $(; $($within:literal),*)?) => {
        Marks { opens: &[$($open),*], closes: &[$($close),*], within: &[$($($within),*)?] }
    };
}

/// What a template must hold, all of it, to show a format; the first that fits.
const SHOWN: &[(&[&str], ToolFormat)] = &[
    (&["<|channel|>", "<|message|>", "functions."], ToolFormat::Harmony),
    (&["<|tool_call>call:"], ToolFormat::Gemma4),
    (&["<start_function_call>"], ToolFormat::FunctionGemma),
    (&["｜DSML｜"], ToolFormat::DeepSeekMarkup),
    (&["<｜tool▁calls▁begin｜>", "```json"], ToolFormat::DeepSeek),
    (&["<｜tool▁calls▁begin｜>"], ToolFormat::DeepSeekPlain),
    (&["<|tool_call_argument_begin|>"], ToolFormat::Kimi),
    (&["<|tool_call:begin|>"], ToolFormat::Fields),
    (&["<|tool_call_start|>"], ToolFormat::PythonTagged),
    (&["<|tool_list_start|>"], ToolFormat::PythonTagged),
    (&["List of tools: ["], ToolFormat::PythonTagged),
    (&["<invoke name="], ToolFormat::Invoke),
    (&["<function=", "<parameter="], ToolFormat::ParameterTags),
    (&["<arg_key>"], ToolFormat::ArgumentTags),
    (&["<function="], ToolFormat::FunctionTag),
    (&[">>>all"], ToolFormat::Recipient),
    (&["<|START_ACTION|>"], ToolFormat::Action),
    (&["Action:", "```json"], ToolFormat::ActionBlock),
    (&["[TOOL_CALLS]"], ToolFormat::Listed),
    (&["<TOOLCALL>"], ToolFormat::ToolCallList),
    (&["<tool_calls>["], ToolFormat::ToolCallsList),
    (&["<|tool_call|>"], ToolFormat::MarkedList),
    (&["functools["], ToolFormat::Functools),
    (&["<|function_call|>"], ToolFormat::FunctionCall),
    (&["'function call'", "<|role_sep|>"], ToolFormat::FunctionCall),
    (&["<|tools_prefix|>"], ToolFormat::Keyed),
    (&["```tool_code"], ToolFormat::ToolCode),
    (&["<function_calls>"], ToolFormat::FunctionCalls),
    (&["<tool_call>"], ToolFormat::Tagged),
    (&["[func_name1("], ToolFormat::Pythonic),
    (&["<|python_tag|>"], ToolFormat::Bare),
    (&["\"parameters\": dictionary"], ToolFormat::Bare),
];

impl ToolFormat {
    /// The format that a template shows, `None` if it shows none that is known.
    pub fn of(template: &str) -> Option<ToolFormat> {
        let shown = |marks: &[&str]| marks.iter().all(|mark| template.contains(mark));
        SHOWN.iter().find(|(marks, _)| shown(marks)).map(|(_, format)| *format)
    }

    /// Texts that open a call; none where a call looks like any other text.
    pub fn opens(self) -> &'static [&'static str] {
        self.marks().opens
    }

    /// All texts around and in calls that may be tokens of their own: whoever reads calls has to
    /// see their text, though they are never shown.
    pub fn tokens(self) -> impl Iterator<Item = &'static str> {
        let Marks { opens, closes, within } = self.marks();
        opens.iter().chain(*closes).chain(*within).copied()
    }

    pub(super) fn marks(self) -> &'static Marks {
        match self {
            ToolFormat::Tagged => &marks!["<tool_call>"; "</tool_call>"],
            ToolFormat::Bare => {
                &marks!["<|python_tag|>", "<|python_start|>"; "<|python_end|>", ";"]
            }
            ToolFormat::Listed => &marks!["[TOOL_CALLS]";; "[ARGS]", "[CALL_ID]"],
            ToolFormat::Pythonic => &marks!["<|python_start|>"; "<|python_end|>"],
            ToolFormat::PythonTagged => &marks!["<|tool_call_start|>"; "<|tool_call_end|>"],
            ToolFormat::ToolCode => &marks!["```tool_code";],
            ToolFormat::FunctionCalls => &marks!["<function_calls>";],
            ToolFormat::Harmony => &marks!["<|start|>assistant to="; "<|call|>"],
            ToolFormat::DeepSeek | ToolFormat::DeepSeekPlain => &marks![
                "<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>";
                "```", "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"; "<｜tool▁sep｜>"],
            ToolFormat::DeepSeekMarkup => &marks![
                "<｜DSML｜function_calls>", "<｜DSML｜tool_calls>", "<｜DSML｜invoke name=\"";
                "</｜DSML｜function_calls>", "</｜DSML｜tool_calls>"; "｜DSML｜"],
            ToolFormat::ArgumentTags => &marks!["<tool_call>"; "</tool_call>";
                "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"],
            ToolFormat::ParameterTags => &marks![
                "<tool_call>", "<seed:tool_call>", "<function=";
                "</tool_call>", "</seed:tool_call>"; "</function>", "</parameter>"],
            ToolFormat::Invoke => &marks!["<minimax:tool_call>", "<invoke name=\"";
                "</minimax:tool_call>"],
            ToolFormat::Kimi => &marks!["<|tool_calls_section_begin|>", "<|tool_call_begin|>";
                "<|tool_call_end|>", "<|tool_calls_section_end|>"; "<|tool_call_argument_begin|>"],
            ToolFormat::FunctionGemma => &marks!["<start_function_call>";
                "<end_function_call>"; "<escape>"],
            ToolFormat::Gemma4 => &marks!["<|tool_call>"; "<tool_call|>"; "<|\"|>"],
            ToolFormat::ActionBlock => &marks!["Action:"; "```"],
            ToolFormat::Action => &marks!["<|START_ACTION|>"; "<|END_ACTION|>"],
            ToolFormat::ToolCallList => &marks!["<TOOLCALL>"; "</TOOLCALL>"],
            ToolFormat::ToolCallsList => &marks!["<tool_calls>"; "</tool_calls>"],
            ToolFormat::MarkedList => &marks!["<|tool_call|>"; "<|/tool_call|>"],
            ToolFormat::Functools => &marks!["functools";],
            ToolFormat::FunctionCall => &marks!["<|function_call|>",
                "function call<|role_sep|>", "<|message_sep|>\n\nfunction call<|role_sep|>";
                "<|message_sep|>"; "<|role_sep|>"],
            ToolFormat::Keyed => &marks!["<|tools_prefix|>"; "<|tools_suffix|>"],
            ToolFormat::FunctionTag => &marks!["<function="; "</function>"],
            ToolFormat::Recipient => &marks![">>>";],
            ToolFormat::Fields => &marks!["<|tool_calls|>", "<|tool_call:begin|>";
                "<|tool_call:end|>", "<|calls|>"; "<|tool_call:name|>", "<|tool_call:args|>"],
        }
    }
}
