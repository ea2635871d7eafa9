from llmbackend._sandbox import Sandbox as Sandbox
from llmbackend._sandbox import sandbox as sandbox
