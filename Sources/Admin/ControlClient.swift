import CLinux
public import Configuration
public import CoreLoop
import Providers

/// What the commands that give orders learn from a gateway.
public enum ControlClient {
    /// How an order ended.
    public enum Outcome: Equatable {
        /// Carried out; the answer's text.
        case done(String)
        /// Refused, or nobody answered: one sentence without a full stop. It says what to do where
        /// that is known.
        case refused(String)
        /// The gateway's configuration is not valid: its file and what is wrong there.
        case invalid(file: String, [Diagnostic])
    }

    /// Gives an order: a POST of `json` to `path`.
    public static func give(
        _ address: SocketAddress, _ path: String, json: String, token: String?,
        timeoutMs: Int = AdminLimits.controlTimeoutMs + 5_000
    ) -> Outcome {
        let answer: (status: Int, body: String)
        do throws(StatusFault) {
            answer = try StatusClient.get(
                address, path, posting: json, token: token, timeoutMs: timeoutMs)
        } catch {
            return .refused(error.description)
        }
        return outcome(answer.status, answer.body, address.text, hasToken: token != nil)
    }

    /// What an answer says.
    static func outcome(
        _ status: Int, _ body: String, _ address: String, hasToken: Bool
    ) -> Outcome {
        if (200..<300).contains(status) { return .done(body) }
        let root = (try? JSONDocument(body))?.root
        if status == 422, let list = root?["findings"] {
            return .invalid(
                file: root?["file"]?.string ?? "", list.elements.compactMap { diagnostic($0) })
        }
        var message = root?["error"]?["message"]?.string ?? "it answered \(status)"
        if message.hasSuffix(".") { message.removeLast() }
        if status == 401, !hasToken {
            message += ": set the variable that admin.token.env names, and name the file"
        }
        return .refused("the gateway at \(address) refuses: \(message)")
    }

    private static func diagnostic(_ value: JSONValue) -> Diagnostic? {
        guard let text = value["code"]?.string, let code = DiagnosticCode(rawValue: text) else {
            return nil
        }
        return Diagnostic(
            code, path: value["path"]?.string ?? "", line: value["line"]?.integer ?? 0,
            column: value["column"]?.integer ?? 0, message: value["message"]?.string ?? "",
            suggestion: value["remedy"]?.string)
    }

    /// What is still under way in a gateway that ends.
    public struct Draining: Equatable {
        /// The supervisor's process id: tells this gateway from one that was started since.
        public var pid: Int
        public var isDraining: Bool
        /// Clients' connections.
        public var connectionsOpen: Int
        /// How long they have, milliseconds.
        public var drainTimeoutMs: Int
    }

    /// Reads `/drain`.
    public static func draining(
        _ address: SocketAddress, token: String?
    ) throws(StatusFault) -> Draining {
        let answer = try StatusClient.get(address, "/drain", token: token)
        guard answer.status == 200, let draining = draining(answer.body) else {
            throw StatusFault("the admin listener at \(address.text) answered \(answer.status)")
        }
        return draining
    }

    /// Reads the body of `/drain`; nil where it is none.
    public static func draining(_ body: String) -> Draining? {
        guard let root = (try? JSONDocument(body))?.root, let pid = root["pid"]?.integer else {
            return nil
        }
        return Draining(
            pid: pid, isDraining: root["draining"]?.flag ?? false,
            connectionsOpen: root["connections_open"]?.integer ?? 0,
            drainTimeoutMs: root["drain_timeout_ms"]?.integer ?? 0)
    }

    /// Whether nobody listens there any more.
    public static func isGone(_ address: SocketAddress) -> Bool {
        switch Socket.connect(to: address) {
        case .connected(let fd), .inProgress(let fd):
            var entry = pollfd(fd: fd, events: Int16(POLLOUT), revents: 0)
            poll(&entry, 1, 1_000)
            let code = Socket.pendingError(fd)
            close(fd)
            return code == ECONNREFUSED
        case .failed(let code): return code == ECONNREFUSED || code == ENOENT
        }
    }

    /// What `POST /reload` says of its success, for a person.
    public static func reloadText(_ body: String) -> String {
        let root = (try? JSONDocument(body))?.root
        guard let generation = root?["generation"]?.integer, let ms = root?["took_ms"]?.integer
        else { return "reloaded" }
        return "reloaded: configuration \(generation) serves, after \(ms) ms"
    }

    /// The message of `POST /mirror`. `rate` as the user wrote it: a decimal fraction.
    public static func mirrorOrder(
        _ action: String, rate: Double?, route: String?, for time: String?
    ) -> String {
        var members: [(String, JSONText)] = [("action", .text(action))]
        if let rate { members.append(("rate", .number(rate))) }
        if let route { members.append(("route", .text(route))) }
        if let time { members.append(("for", .text(time))) }
        return JSONText.object(members).written
    }
}
