"""The Responses API (`/v1/responses`): the body of a request, its input, and the format of its response."""
