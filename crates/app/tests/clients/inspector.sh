# The MCP Inspector's command line: `list`, or `call` of $TOOL with $ARGUMENTS. Each is a session of its own.

case "$1" in
list)
  # docs: inspector
  mcp-inspector --cli "$URL" --header "Authorization: Bearer $TOKEN" --method tools/list
  # docs: end
  ;;
call)
  # docs: inspector
  mcp-inspector --cli "$URL" --header "Authorization: Bearer $TOKEN" --method tools/call \
    --tool-name "$TOOL" --tool-args-json "$ARGUMENTS"
  # docs: end
  ;;
esac
