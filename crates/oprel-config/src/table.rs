//! Every setting there is.

/// One thing that can be set.
#[derive(Debug)]
pub struct Setting {
    /// Its name in `config.yaml`. Its variable is `OPREL_` and this in capitals.
    pub key: &'static str,
    /// Names that the first oprel's files have for it.
    pub old: &'static [&'static str],
    /// Whether users of Ollama set it as `OLLAMA_` and the same name.
    pub ollama: bool,
    /// What it may be.
    pub kind: Kind,
    /// What it is where nothing is set, in words where it depends.
    pub default: &'static str,
    /// What it does.
    pub about: &'static str,
}

/// What a setting may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A path; `~/` is the user's home.
    Path,
    /// Where a server is.
    Address,
    /// A whole number, 0 or more.
    Number,
    /// A whole number, of which -1 means all or for ever.
    Signed,
    /// `true` or `false`; also 1, 0, yes, no, on, off.
    Switch,
    /// Several texts: a list in the file, separated by commas in a variable.
    List,
    /// A time as in `5m`, or seconds.
    Time,
    /// Not shown.
    Secret,
}

const fn new(key: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Setting {
    Setting { key, old: &[], ollama: false, kind, default, about }
}

impl Setting {
    const fn ollama(self) -> Setting {
        Setting { ollama: true, ..self }
    }

    const fn old(self, old: &'static [&'static str]) -> Setting {
        Setting { old, ..self }
    }

    /// The variable of ours.
    pub fn variable(&self) -> String {
        format!("OPREL_{}", self.key.to_ascii_uppercase())
    }

    /// The variable that users of Ollama have set.
    pub fn ollama_variable(&self) -> Option<String> {
        self.ollama.then(|| format!("OLLAMA_{}", self.key.to_ascii_uppercase()))
    }
}

/// All settings, by topic.
#[rustfmt::skip]
pub const SETTINGS: &[Setting] = &[
    new("host", Kind::Address, "127.0.0.1:11434", "where the server listens and clients look for it").ollama(),
    new("origins", Kind::List, "", "origins of web pages that may call the server").ollama(),
    new("api_key", Kind::Secret, "", "the key that clients say"),
    new("tls_ca", Kind::Path, "the usual authorities", "certificates of an authority that servers are believed by"),
    new("keep_alive", Kind::Time, "5m", "how long a model stays loaded after its last use").ollama(),
    new("load_timeout", Kind::Time, "5m", "how long a model may take to load").ollama(),
    new("max_loaded_models", Kind::Number, "as many as memory holds", "most models that are loaded at a time").ollama(),
    new("max_queue", Kind::Number, "512", "most requests that wait for a model to load").ollama(),
    new("num_parallel", Kind::Number, "16", "most answers that one model makes at a time").ollama(),
    new("conversations", Kind::Text, "a file in OPREL_HOME", "where conversations are kept: redis://host[:port][/number]"),
    new("log", Kind::Text, "info", "what the server's log has: error, warn, info, debug, trace, or by part"),

    new("models", Kind::Path, "models in OPREL_HOME", "the store of models").ollama().old(&["cache_dir"]),
    new("backends", Kind::Path, "backends in OPREL_HOME", "where engines that were installed are").old(&["binary_dir"]),
    new("backend_source", Kind::Text, "GitHub's API of ggml-org/llama.cpp", "where releases of llama.cpp's server are described"),
    new("llama_server", Kind::Path, "one that was installed, else on PATH", "llama.cpp's server, for files that our engine does not know"),
    new("noprune", Kind::Switch, "false", "keep what no model in the store needs").ollama(),
    new("hub", Kind::Text, "HF_ENDPOINT, else the hub's own", "where models of a hub are fetched from"),
    new("offline", Kind::Switch, "false", "connect to no hub and no registry"),
    new("download_streams", Kind::Number, "8", "parts of a file that are fetched at a time"),
    new("download_rate", Kind::Number, "no bound", "most bytes a second of all downloads together"),
    new("download_stall", Kind::Number, "30", "seconds that a server may send nothing before it is asked anew"),

    new("context_length", Kind::Number, "the model's own, at most 4096; of the server, what fits", "context length of requests that say none")
        .ollama().old(&["ctx_size"]),
    new("draft", Kind::Text, "none", "a smaller model that proposes tokens for all models of its vocabulary"),
    new("threads", Kind::Number, "one for each physical core", "CPU threads").old(&["n_threads"]),
    new("batch_size", Kind::Number, "512", "most tokens of prompts in one step").old(&["n_batch"]),
    new("gpu_layers", Kind::Signed, "as many as fit", "layers on the GPU; -1 for all").old(&["n_gpu_layers"]),
    new("max_memory_mb", Kind::Number, "what is free", "most megabytes that one model may need").old(&["default_max_memory_mb"]),
    new("kv_cache_type", Kind::Text, "i16", "how keys and values are stored: i16, f32, f16, bf16, q8_0, q4_0").ollama(),
    new("overcommit", Kind::Switch, "false", "load models that need more memory than is free"),
    new("prompt_cache", Kind::Path, "nowhere", "a folder for what prompts computed"),
    new("prompt_cache_size", Kind::Number, "4096", "most megabytes in it"),
    new("isa", Kind::Text, "the best there is", "instruction set of the CPU kernels"),
    new("nohistory", Kind::Switch, "false", "remember nothing of what is typed in a chat").ollama(),
];

/// The setting of a name in a file, also by an old one.
pub fn named(name: &str) -> Option<&'static Setting> {
    let same = |setting: &&Setting| setting.key == name || setting.old.contains(&name);
    SETTINGS.iter().find(same)
}
