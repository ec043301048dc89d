/// Why an answer ended, in the words of both sides.
public enum FinishReason: String, Sendable {
    case stop, length, toolCalls = "tool_calls", contentFilter = "content_filter", unknown

    /// As chat completions say it.
    init(chat reason: JSONValue?) {
        self =
            switch reason?.string {
            case "stop": .stop
            case "length": .length
            case "tool_calls", "function_call": .toolCalls
            case "content_filter": .contentFilter
            default: .unknown
            }
    }

    /// As messages say it.
    init(messages reason: JSONValue?) {
        self =
            switch reason?.string {
            case "end_turn", "stop_sequence": .stop
            case "max_tokens", "pause_turn", "model_context_window_exceeded": .length
            case "tool_use": .toolCalls
            case "refusal": .contentFilter
            default: .unknown
            }
    }

    /// The word for a chat client, who knows no other.
    var chat: String { self == .unknown ? "stop" : rawValue }

    /// The word for a messages client.
    var messages: String {
        switch self {
        case .stop, .unknown: "end_turn"
        case .length: "max_tokens"
        case .toolCalls: "tool_use"
        case .contentFilter: "refusal"
        }
    }
}
