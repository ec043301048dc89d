/// Errors in the form of either side, and from one into the other.
public enum ErrorBody {
    /// An error as chat completions tell it.
    public static func chat(
        message: String, type: String, code: String?, param: String? = nil
    ) -> [UInt8] {
        JSONWriter.write { writer in
            writer.object { writer in
                writer.object("error") { error in
                    error.member("message", message)
                    error.member("type", type)
                    error.member("param", param)
                    error.member("code", code)
                }
            }
        }
    }

    /// An error as messages tell it.
    public static func messages(message: String, type: String, requestID: String? = nil) -> [UInt8]
    {
        JSONWriter.write { writer in
            writer.object { writer in
                writer.member("type", "error")
                writer.object("error") { error in
                    error.member("type", type)
                    error.member("message", message)
                }
                writer.member("request_id", requestID)
            }
        }
    }

    /// An error in the form of `dialect`.
    public static func write(
        _ dialect: Dialect, status: Int, message: String, code: String
    ) -> [UInt8] {
        switch dialect {
        case .openAI: chat(message: message, type: chatType(status), code: code)
        case .anthropic: messages(message: message, type: messagesType(status))
        }
    }

    /// The answer to a chat client where a messages API answered `body` with `status`, which is
    /// 400 or more. A body that is no error object (HTML, nothing) is not shown to the client.
    public static func chat(fromMessages body: [UInt8], status: Int) -> (status: Int, body: [UInt8])
    {
        let error = (try? JSONDocument(body))?.root["error"]
        // 529 is known to nobody else.
        let own = status == 529 ? 503 : status
        return (
            own,
            chat(
                message: error?["message"]?.string ?? unreadable(status),
                type: chatType(own), code: error?["type"]?.string ?? "invalid_answer")
        )
    }

    /// The answer to a messages client where a chat API answered `body` with `status`.
    public static func messages(fromChat body: [UInt8], status: Int) -> (status: Int, body: [UInt8])
    {
        let error = (try? JSONDocument(body))?.root["error"]
        // Servers of the dialect put a bare text there as well.
        let message = error?["message"]?.string ?? error?.string ?? unreadable(status)
        let own = status == 503 ? 529 : status
        return (own, messages(message: message, type: messagesType(own)))
    }

    private static func unreadable(_ status: Int) -> String {
        "the provider answered with status \(status) and no error that can be read"
    }

    private static func chatType(_ status: Int) -> String {
        switch status {
        case 401: "authentication_error"
        case 403: "permission_error"
        case 429: "rate_limit_error"
        case 500...: "server_error"
        default: "invalid_request_error"
        }
    }

    private static func messagesType(_ status: Int) -> String {
        switch status {
        case 401: "authentication_error"
        case 402: "billing_error"
        case 403: "permission_error"
        case 404: "not_found_error"
        case 413: "request_too_large"
        case 429: "rate_limit_error"
        case 408, 504: "timeout_error"
        case 529: "overloaded_error"
        case 500...: "api_error"
        default: "invalid_request_error"
        }
    }
}
