"""Chat templates in the shapes that real models have them, written for these tests.

Each holds ANSWER where the assistant's content and the token behind it stand: with `{% generation %}` around it the
template marks them itself, without it they have to be found.
"""

from __future__ import annotations

LLAMA_2 = """\
{% if messages[0]['role'] == 'system' %}
{% set system = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}{% set rest = messages[1:] %}
{% else %}
{% set system = '' %}{% set rest = messages %}
{% endif %}
{% for message in rest %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{% endif %}
{% if message['role'] == 'user' %}
{{ bos_token + '[INST] ' + (system if loop.first else '') + message['content'].strip() + ' [/INST]' }}
{% else %}
{{ ' ' }}<ANSWER>{{ message['content'].strip() + ' ' + eos_token }}</ANSWER>
{% endif %}
{% endfor %}"""

CHATML = """\
{% for message in messages %}
{{ '<|im_start|>' + message['role'] + '\\n' }}
{% if message['role'] == 'assistant' %}
<ANSWER>{{ message['content'] + '<|im_end|>' }}</ANSWER>
{% else %}
{{ message['content'] + '<|im_end|>' }}
{% endif %}
{{ '\\n' }}
{% endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

MISTRAL = """\
{{ bos_token }}
{%- for message in messages %}
{%- if message['role'] == 'user' %}
{{- '[INST] ' + message['content'] + '[/INST]' }}
{%- elif message['role'] == 'assistant' %}
{{- ' ' }}<ANSWER>{{- message['content'] | trim + eos_token }}</ANSWER>
{%- else %}
{{- raise_exception('Only user and assistant roles are supported!') }}
{%- endif %}
{%- endfor %}"""

HEADERS = """\
{{- bos_token }}
{%- for message in messages %}
{{- '<|start|>' + message['role'] + '<|end|>\\n\\n' }}
{%- if message['role'] == 'assistant' -%}
<ANSWER>{{- message['content'] | trim + '<|eot|>' -}}</ANSWER>
{%- else -%}
{{- message['content'] | trim + '<|eot|>' -}}
{%- endif -%}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant<|end|>\\n\\n' }}{%- endif %}"""

THINKING = """\
{%- set ns = namespace(last=0) %}
{%- for message in messages %}{%- if message.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}
{%- for message in messages %}
{%- set text = message.content %}
{%- if message.role == 'assistant' and loop.index0 < ns.last and '</think>' in text %}
{%- set text = text.split('</think>')[-1].lstrip('\\n') %}
{%- endif %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' -%}<ANSWER>{{- text + '<|im_end|>' -}}</ANSWER>
{%- else -%}{{- text + '<|im_end|>' -}}{%- endif -%}
{{- '\\n' }}
{%- endfor %}"""

SHAPES = {"llama-2": LLAMA_2, "chatml": CHATML, "mistral": MISTRAL, "headers": HEADERS, "thinking": THINKING}


def plain(shape: str) -> str:
    """The template as most are published: what the assistant says is not marked."""
    return SHAPES[shape].replace("<ANSWER>", "{% if true %}").replace("</ANSWER>", "{% endif %}")


def marked(shape: str) -> str:
    """The same, with generation blocks."""
    return SHAPES[shape].replace("<ANSWER>", "{% generation %}").replace("</ANSWER>", "{% endgeneration %}")
