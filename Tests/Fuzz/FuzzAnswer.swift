// libFuzzer target: answer heads. The first byte chooses what the request was.

nonisolated(unsafe) private let whole = ResponseHead(limits: HeadLimits())
nonisolated(unsafe) private let part = ResponseHead(limits: HeadLimits())

@c(LLVMFuzzerTestOneInput)
public func fuzzAnswer(_ start: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    guard count > 0, let start else { return 0 }
    let toHead = start[0] & 1 == 1
    let toConnect = start[0] & 2 == 2
    let bytes = UnsafeRawBufferPointer(start: start + 1, count: count - 1)
    let outcome = whole.parse(bytes, toHead: toHead, toConnect: toConnect)
    checkPrefixes(bytes, outcome) { part.parse($0, toHead: toHead, toConnect: toConnect) }
    guard case .complete(let headBytes) = outcome else { return 0 }
    checkFields(bytes, whole.fields, headBytes: headBytes)
    precondition((100...599).contains(whole.status) && whole.reason.end <= headBytes)
    let isBodyless = whole.status < 200 || whole.status == 204 || whole.status == 304 || toHead
    if isBodyless { precondition(whole.framing == .none) }
    if whole.framing == .none {
        precondition(isBodyless || (toConnect && whole.status < 300))
    }
    precondition(whole.framing != .untilClose || !whole.keepAlive)
    precondition(!whole.isUpgrade || whole.status == 101)
    return 0
}
