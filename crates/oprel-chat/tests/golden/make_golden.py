#!/usr/bin/env python3
"""Writes expected.json: what Jinja2, set up as `transformers` sets it up, makes of the cases here.

    python3 make_golden.py                      # needs jinja2 3.1.6
    python3 make_golden.py --compare DIR...     # other templates, with every conversation, against
                                                # `cargo run --example render_cases`

Cases: every line of expressions.txt as `{{ line }}`, every statement of statements.json, every
template of templates/ with every conversation. `null` stands for an error.
"""
import datetime
import functools
import glob
import json
import pathlib
import subprocess
import sys

import jinja2
import jinja2.ext
import jinja2.nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = pathlib.Path(__file__).parent
NOW = 1722006245  # 2024-07-26 15:04:05 UTC
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_keep")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _keep(self, caller):
        return caller()


def environment():
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(
            x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )

    def strftime_now(format):
        return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).replace(
            tzinfo=None
        ).strftime(format)

    class Names(jinja2.utils.Namespace):
        def __init__(*args, **kwargs):
            self, args = args[0], args[1:]
            attrs = dict(*args, **kwargs)
            for name in attrs:
                Names.check(name)
            jinja2.utils.Namespace.__init__(self, attrs)

        def __setitem__(self, name, value):
            Names.check(name)
            jinja2.utils.Namespace.__setitem__(self, name, value)

        @staticmethod
        def check(name):
            if isinstance(name, str) and name.startswith("_"):
                raise jinja2.exceptions.SecurityError(name)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    env.globals["namespace"] = Names
    return env


@functools.lru_cache(500)
def compiled(template):
    return environment().from_string(template)


def render(case):
    variables = {
        "messages": case.get("messages", []),
        "tools": case.get("tools"),
        "documents": None,
        "add_generation_prompt": case.get("add_generation_prompt", False),
    }
    variables.update(case.get("kwargs", {}))
    try:
        return compiled(case["template"]).render(**variables)
    except Exception:  # whatever Python raises, a prompt there is none
        return None


def conversations(template):
    data = json.loads((HERE / "conversations.json").read_text())
    for name, messages in data["conversations"].items():
        for variant in data["variants"]:
            case = dict(variant, template=template, messages=messages, name=name)
            case["kwargs"] = dict(TOKENS, **variant.get("kwargs", {}))
            if case.pop("tools", False):
                case["tools"] = data["tools"]
            yield case


def write():
    statements = json.loads((HERE / "statements.json").read_text())
    variables = statements["variables"]
    lines = (HERE / "expressions.txt").read_text().splitlines()
    plain = lambda text: render({"template": text, "kwargs": variables})
    templates = sorted(HERE.glob("templates/*.jinja"))
    expected = {
        "expressions": [plain("{{ " + line + " }}") for line in lines],
        "statements": [plain(text) for text in statements["statements"]],
        "templates": {
            path.stem: [render(case) for case in conversations(path.read_text())]
            for path in templates
        },
    }
    text = json.dumps(expected, ensure_ascii=False, indent=0)
    (HERE / "expected.json").write_text(text + "\n")


def compare(folders):
    files = [f for folder in folders for f in sorted(glob.glob(folder + "/*.jinja"))]
    cases = [(f, case) for f in files for case in conversations(open(f, newline="").read())]
    lines = "".join(json.dumps(dict(case, now=NOW)) + "\n" for _, case in cases)
    command = ["cargo", "run", "-q", "-p", "oprel-chat", "--example", "render_cases"]
    run = subprocess.run(command, input=lines.encode(), stdout=subprocess.PIPE, check=True)
    differ = 0
    for (file, case), line in zip(cases, run.stdout.decode().splitlines(), strict=True):
        if json.loads(line).get("text") != render(case):
            differ += 1
            print(f"differs: {file}, conversation {case['name']}")
    print(f"{len(cases)} cases, {differ} differ")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--compare"]:
        compare(sys.argv[2:])
    else:
        write()
