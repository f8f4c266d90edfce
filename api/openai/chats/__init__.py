"""Chats (`/v1/chat/completions`): the body of a request, and the format of its response."""
