/// What a request to a model can do besides being answered.
public enum RequestEffects: Sendable, Equatable {
    /// Nothing.
    case none
    /// It brings tools that its client runs: a call of one is a text in the answer.
    case clientTools
    /// The provider acts: it runs tools itself (MCP servers, code, searches), or adds to a
    /// conversation that it keeps. Whatever is not known to be harmless is this.
    case provider

    /// What the body `root` of a request of the kind `inference` can do.
    ///
    /// Names of tools are those of OpenAI's chat completions and responses, and of Anthropic's
    /// messages (`llm-protocols.md`).
    public init(_ root: JSONValue, of inference: Inference) {
        let isMessages = inference.dialect == .anthropic
        let acting: [StaticString] =
            isMessages ? ["mcp_servers", "container"] : ["web_search_options", "conversation"]
        guard acting.allSatisfy({ Self.isEmpty(root[$0]) }) else {
            self = .provider
            return
        }
        guard let tools = root.present("tools") else {
            self = Self.isEmpty(root["functions"]) ? .none : .clientTools
            return
        }
        guard tools.kind == .list else {
            self = .provider
            return
        }
        let areClients = tools.elements.allSatisfy { Self.isClients($0, isMessages: isMessages) }
        self = !areClients ? .provider : tools.count == 0 ? .none : .clientTools
    }

    private static func isEmpty(_ value: JSONValue?) -> Bool {
        guard let value, !value.isNull else { return true }
        return value.kind == .list && value.count == 0
    }

    private static func isClients(_ tool: JSONValue, isMessages: Bool) -> Bool {
        guard tool.kind == .object else { return false }
        // A function that does not say so is one in both APIs.
        guard let type = tool["type"] else { return true }
        guard let type = type.string else { return false }
        if !isMessages {
            return [
                "function", "custom", "local_shell", "apply_patch", "computer",
                "computer_use_preview",
            ].contains(type)
        }
        // Anthropic's own carry a date.
        return type == "custom"
            || ["bash_", "text_editor_", "computer_", "memory_"].contains { type.hasPrefix($0) }
    }
}
