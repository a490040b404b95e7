"""The local page and what monitoring asks for, over HTTP. Everything here reads; nothing changes the agent."""
