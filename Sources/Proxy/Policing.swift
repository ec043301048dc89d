import CLinux
import CoreLoop
import HTTP
public import Policy
import Providers

/// Requests to LLM targets held against the policies of the configuration.
extension ProxyWorker {
    /// From now on requests to LLM targets are held against `policies`, where any of these looks at
    /// requests.
    public func use(_ policies: PolicyChain) {
        guard policies.inspectsRequests else { return }
        inspects = true
        readsStrictly = policies.isStrict
        onHeld = { [unowned self] slot, request in judge(slot, request, policies) }
    }

    /// Whether a request that asks no model has to be read as well. Under a path that is not known
    /// here it may ask one, and servers take for JSON what comes under another type, too. Only
    /// files are passed on unread.
    func carriesText(_ bytes: UnsafeRawPointer) -> Bool {
        let head = requestHead
        switch head.framing {
        case .none: return false
        case .length(0): return false
        default: break
        }
        guard let place = head.fields.first(.contentType) else { return true }
        let value = head.fields[place].value
        let files: StaticString = "multipart/"
        let count = files.utf8CodeUnitCount
        return Int(value.count) < count
            || strncasecmp(bytes + value.start, files.utf8Start, count) != 0
    }

    /// Whether the body of the request whose head is parsed is compressed, and so cannot be read.
    func isEncoded(_ bytes: UnsafeRawPointer) -> Bool {
        for index in 0..<requestHead.fields.count {
            let field = requestHead.fields[index]
            guard
                ProviderFields.isName(
                    bytes + field.name.start, Int(field.name.count), "content-encoding")
            else { continue }
            let isPlain = ProviderFields.isName(
                bytes + field.value.start, Int(field.value.count), "identity")
            if field.value.count > 0, !isPlain { return true }
        }
        return false
    }

    /// Tells in the log that a body was refused because no policy could look at it, where `fault`
    /// says that it was.
    func noteUnread(_ slot: Int, _ fault: GatewayFault) {
        guard readsStrictly, fault == .bodyEncoded || fault == .bodyTooLarge,
            forwarding.hasProvider(ofRoute: Int(clients[slot].pointee.route))
        else { return }
        refuseUnread(slot)
    }

    private func refuseUnread(_ slot: Int) {
        counters.add(.policyBlocked)
        let record = clients[slot].pointee.log
        guard record != AccessLog.none else { return }
        var report = PolicyReport()
        report.refuseUnread()
        log?.setPolicy(record, report)
    }

    private func judge(_ slot: Int, _ request: HeldRequest, _ policies: PolicyChain) -> HeldVerdict
    {
        let document: JSONDocument
        do throws(JSONFault) {
            document = try request.document(blocks)
        } catch {
            guard policies.isStrict else { return .pass }
            refuseUnread(slot)
            return .answer(
                status: 400,
                body: ErrorBody.write(
                    request.dialect, status: 400,
                    message: "The request's body is no JSON: \(error.text).", code: "invalid_json"))
        }
        var report = PolicyReport()
        let decision = policies.inspect(document, &report)
        let record = clients[slot].pointee.log
        if record != AccessLog.none { log?.setPolicy(record, report) }
        switch report.verdict {
        case .allow: break
        case .redact: counters.add(.policyRedacted)
        case .escalate: counters.add(.policyFlagged)
        case .block: counters.add(.policyBlocked)
        }
        switch decision {
        case .pass: return .pass
        case .replace(let body): return .replaced(body)
        case .refuse(let policy):
            return .answer(status: 409, body: policies.refusal(request.dialect, policy: policy))
        }
    }
}
