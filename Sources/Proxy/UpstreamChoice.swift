import CoreLoop
import HTTP
import Upstream

/// Which endpoint gets a request, and what its exchanges say of it.
extension ProxyWorker {
    /// Instead of a slot: the connect was refused at once; there is no address or no room; every
    /// endpoint has as many connections as it may.
    static let upstreamRefusedAtOnce = -1
    static let noUpstreamToTry = -2
    static let upstreamSaturated = -3

    /// A connection to `target` for a client's request: to its only endpoint, or to the one that
    /// the balance chooses among those that the request has not tried. With `checkFirst` a pooled
    /// one is asked whether it still lives: what goes out on it cannot be sent again.
    func acquireUpstream(_ target: Int, for client: Int, checkFirst: Bool) -> Int {
        let first = table.targets[target].first
        if table.targets[target].isPlain {
            let slot = acquire(endpoint: first, of: target, checkFirst: checkFirst)
            if slot >= 0 { table.cells[first].add(.requests) }
            return slot
        }
        var answer = Self.noUpstreamToTry
        while true {
            guard let place = choose(target, client, &answer) else { return answer }
            clients[client].pointee.tried |= 1 << UInt64(place)
            let slot = acquire(endpoint: first + place, of: target, checkFirst: checkFirst)
            if slot >= 0 {
                table.cells[first + place].add(.requests)
                return slot
            }
            answer = slot
            if slot == Self.upstreamRefusedAtOnce {
                noteFailure(first + place, of: target, .connect)
                guard mayMoveOn(target) else { return answer }
                noteRetry(target, client, .connect)
            }
        }
    }

    private func choose(_ target: Int, _ client: Int, _ answer: inout Int) -> Int? {
        let states = table.states(of: target)
        let key = clients[client].pointee.hashKey
        let wish = Balancer.Wish(
            key: key == 0 ? nil : key, excluded: clients[client].pointee.tried,
            nowMs: now.milliseconds)
        let entry = table.targets + target
        if entry.pointee.balancer.isPanic(states) { entry.pointee.cells.add(.panics) }
        switch entry.pointee.balancer.choose(states, wish, &random) {
        case .endpoint(let place): return place
        case .saturated:
            if answer == Self.noUpstreamToTry {
                entry.pointee.cells.add(.saturated)
                answer = Self.upstreamSaturated
            }
            return nil
        case .none: return nil
        }
    }

    /// A request begins: what it has tried is nothing, and its key is the field's value. Only for
    /// targets that are not plain.
    func beginChoice(_ target: Int, for client: Int, _ bytes: UnsafeRawPointer) {
        let connection = clients[client]
        connection.pointee.tried = 0
        connection.pointee.retries = 0
        connection.pointee.hashKey = 0
        if table.targets[target].retryAttempts > 0 {
            table.targets[target].budget.noteRequest(nowMs: now.milliseconds)
        }
        guard let name = table.targets[target].hashField else { return }
        for place in 0..<requestHead.fields.count {
            let field = requestHead.fields[place]
            guard name.equalsIgnoringCase(bytes + field.name.start, Int(field.name.count)) else {
                continue
            }
            let value = UnsafeRawBufferPointer(
                start: bytes + field.value.start, count: Int(field.value.count))
            // 0 stands for none.
            connection.pointee.hashKey = max(1, KeyHash.of(value))
            return
        }
    }

    // MARK: What exchanges say

    /// Whether a request whose connection failed may go to another endpoint: nothing of it was
    /// sent, so any request may.
    func mayMoveOn(_ target: Int) -> Bool {
        table.targets[target].retryAttempts > 0 && table.targets[target].retryOn.contains(.connect)
    }

    func noteRetry(_ target: Int, _ client: Int, _ failure: EndpointFailure) {
        clients[client].pointee.flags.insert(.retried)
        let counter: TargetCounter =
            switch failure {
            case .connect: .retriesConnect
            case .reset: .retriesReset
            case .timeout: .retriesTimeout
            default: .retriesStatus
            }
        table.targets[target].cells.add(counter)
    }

    /// An answer came that is no failure.
    @inline(__always)
    func noteSuccess(_ endpoint: Int, of target: Int) {
        if !table.targets[target].isPlain {
            table.targets[target].ejection.succeeded(table.states + endpoint)
        }
    }

    /// An exchange failed by the endpoint's doing.
    func noteFailure(_ endpoint: Int, of target: Int, _ failure: EndpointFailure) {
        switch failure {
        case .connect: break  // counted for each address, where it failed
        case .reset: table.cells[endpoint].add(.resets)
        case .timeout: table.cells[endpoint].add(.timeouts)
        default: table.cells[endpoint].add(.errorAnswers)
        }
        let entry = table.targets + target
        guard !entry.pointee.isPlain, entry.pointee.ejection.failures.isSuperset(of: failure) else {
            return
        }
        let outcome = entry.pointee.ejection.failed(
            table.states(of: target), endpoint - entry.pointee.first, nowMs: now.milliseconds)
        if case .ejected(let ms) = outcome {
            table.noteEjection(endpoint)
            onEjection?(target, endpoint - entry.pointee.first, ms)
        }
    }

    /// Counts what became of a request that was sent more than once.
    func noteRetriedOutcome(_ client: Int, _ target: Int, recovered: Bool) {
        guard clients[client].pointee.flags.contains(.retried) else { return }
        clients[client].pointee.flags.remove(.retried)
        table.targets[target].cells.add(recovered ? .recovered : .failed)
    }

    // MARK: Another try

    /// Sends a request again after `failure`, to another endpoint where there is one. False where
    /// that may not be: the caller passes the failure on.
    func tryElsewhere(_ slot: Int, _ failure: EndpointFailure) -> Bool {
        let upstream = upstreams[slot]
        let client = Int(upstream.pointee.client)
        let target = Int(upstream.pointee.target)
        let entry = table.targets + target
        guard entry.pointee.retryOn.isSuperset(of: failure), !upstream.pointee.replay.isEmpty,
            clients[client].pointee.state == .exchange, upstream.pointee.interimAnswers == 0,
            Int(clients[client].pointee.retries) < entry.pointee.retryAttempts
        else { return false }
        guard entry.pointee.budget.take(nowMs: now.milliseconds) else {
            entry.pointee.cells.add(.overBudget)
            return false
        }
        var next = acquireUpstream(target, for: client, checkFirst: true)
        if next < 0 {
            // No other one: the same may do better this time.
            clients[client].pointee.tried = 0
            next = acquireUpstream(target, for: client, checkFirst: true)
        }
        guard next >= 0 else {
            entry.pointee.cells.add(.noEndpoint)
            return false
        }
        clients[client].pointee.retries += 1
        noteRetry(target, client, failure)
        guard sendAgain(client, from: slot, to: next) else {
            closeUpstream(next)
            return false
        }
        return true
    }

    /// Moves an exchange to another connection and sends the kept request there. What is kept
    /// stays kept where it may be needed once more. False where slices have run out.
    func sendAgain(_ client: Int, from old: Int, to new: Int) -> Bool {
        var copy = SliceQueue()
        let upstream = upstreams[old]
        let target = Int(upstream.pointee.target)
        if upstreams[new].pointee.flags.contains(.reused)
            || table.targets[target].retryAttempts > 0
        {
            var isWhole = true
            slices.forEach(upstream.pointee.replay) { slice in
                isWhole = slices.append(slice, to: &copy, blocks)
                return isWhole
            }
            guard isWhole else {
                slices.clear(&copy, blocks)
                return false
            }
        } else {
            swap(&copy, &upstream.pointee.replay)
        }
        slices.clear(&upstream.pointee.out, blocks)
        moveExchange(client, from: old, to: new, queue: copy)
        closeUpstream(old)
        return true
    }
}
