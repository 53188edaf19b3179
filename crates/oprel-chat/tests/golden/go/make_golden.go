// What Go's text/template makes of the cases beside this file: `go run make_golden.go` writes
// expected.json. Values print as Ollama means them to: what is put together, as JSON.
package main

import (
	"bytes"
	"encoding/json"
	"os"
	"sort"
	"strings"
	"text/template"
)

func compact(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

type Arguments map[string]any

func (a Arguments) String() string { return compact(map[string]any(a)) }

type Function struct {
	Index     int       `json:"-"`
	Name      string    `json:"name"`
	Arguments Arguments `json:"arguments"`
}

func (f Function) String() string { return compact(f) }

type ToolCall struct {
	ID       string   `json:"id,omitempty"`
	Function Function `json:"function"`
}

func (c ToolCall) String() string { return compact(c) }

type Property struct {
	Type        string `json:"type"`
	Description string `json:"description,omitempty"`
	Enum        []any  `json:"enum,omitempty"`
}

func (p Property) String() string { return compact(p) }

type Properties map[string]Property

func (p Properties) String() string { return compact(map[string]Property(p)) }

type Parameters struct {
	Type       string     `json:"type"`
	Properties Properties `json:"properties"`
	Required   []string   `json:"required,omitempty"`
}

func (p Parameters) String() string { return compact(p) }

type ToolFunction struct {
	Name        string     `json:"name"`
	Description string     `json:"description,omitempty"`
	Parameters  Parameters `json:"parameters"`
}

func (f ToolFunction) String() string { return compact(f) }

type Tool struct {
	Type     string       `json:"type"`
	Function ToolFunction `json:"function"`
}

func (t Tool) String() string { return compact(t) }

type Tools []Tool

func (t Tools) String() string { return compact([]Tool(t)) }

type Message struct {
	Role       string     `json:"role"`
	Content    string     `json:"content"`
	Thinking   string     `json:"thinking,omitempty"`
	ToolCalls  []ToolCall `json:"tool_calls,omitempty"`
	ToolName   string     `json:"name,omitempty"`
	ToolCallID string     `json:"tool_call_id,omitempty"`
	Images     []any      `json:"images,omitempty"`
}

type Conversation struct {
	Messages []*Message `json:"messages"`
	Tools    Tools      `json:"tools"`
	Think    *bool      `json:"think"`
	Level    string     `json:"level"`
}

type Cases struct {
	Variables     map[string]any           `json:"variables"`
	Plain         []string                 `json:"plain"`
	Conversations map[string]*Conversation `json:"conversations"`
	Templates     map[string]string        `json:"templates"`
}

// JSON's numbers as Go's integers where they are whole.
func whole(v any) any {
	switch v := v.(type) {
	case float64:
		if v == float64(int(v)) {
			return int(v)
		}
	case []any:
		for i := range v {
			v[i] = whole(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = whole(v[k])
		}
	}
	return v
}

var funcs = template.FuncMap{
	"json":          compact,
	"currentDate":   func(...string) string { return "2024-07-26" },
	"yesterdayDate": func(...string) string { return "2024-07-25" },
}

func render(text string, data any) any {
	t, err := template.New("").Option("missingkey=zero").Funcs(funcs).Parse(text)
	if err != nil {
		return nil
	}
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		return nil
	}
	return b.String()
}

func main() {
	var cases Cases
	bytes, err := os.ReadFile("cases.json")
	if err == nil {
		err = json.Unmarshal(bytes, &cases)
	}
	if err != nil {
		panic(err)
	}
	var plain []any
	for _, text := range cases.Plain {
		plain = append(plain, render(text, whole(map[string]any(cases.Variables))))
	}
	chats := map[string]any{}
	for tn, text := range cases.Templates {
		for cn, c := range cases.Conversations {
			var system []string
			for _, m := range c.Messages {
				if m.Role == "system" {
					system = append(system, m.Content)
				}
				for i := range m.ToolCalls {
					m.ToolCalls[i].Function.Index = i
				}
			}
			data := map[string]any{
				"System": strings.Join(system, "\n\n"), "Messages": c.Messages, "Tools": c.Tools,
				"Response": "", "Think": c.Think != nil && *c.Think, "ThinkLevel": c.Level,
				"IsThinkSet": c.Think != nil,
			}
			chats[tn+"/"+cn] = render(text, data)
		}
	}
	names := make([]string, 0, len(chats))
	for n := range chats {
		names = append(names, n)
	}
	sort.Strings(names)
	out, _ := json.MarshalIndent(map[string]any{"plain": plain, "chats": chats}, "", " ")
	if err := os.WriteFile("expected.json", append(out, '\n'), 0o644); err != nil {
		panic(err)
	}
}
