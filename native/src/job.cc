// SPDX-License-Identifier: Apache-2.0
#include "job.h"

namespace fairlead {

namespace {

class Job : public Napi::AsyncWorker {
 public:
  Job(Napi::Env env, const char* name, Work work, Finish finish)
      : AsyncWorker(env, name),
        deferred_(Napi::Promise::Deferred::New(env)),
        work_(std::move(work)),
        finish_(std::move(finish)) {}

  Napi::Promise Promise() const { return deferred_.Promise(); }

 protected:
  void Execute() override { failure_ = work_(); }

  void OnOK() override {
    Napi::Env env = Env();
    if (failure_) return deferred_.Reject(ToError(env, *failure_).Value());
    Napi::Value value = finish_ ? finish_(env) : env.Undefined();
    if (env.IsExceptionPending()) {
      deferred_.Reject(env.GetAndClearPendingException().Value());
    } else {
      deferred_.Resolve(value);
    }
  }

 private:
  Napi::Promise::Deferred deferred_;
  Work work_;
  Finish finish_;
  Result failure_;
};

}  // namespace

Napi::Value Start(Napi::Env env, const char* name, Work work, Finish finish) {
  Job* job = new Job(env, name, std::move(work), std::move(finish));
  Napi::Value promise = job->Promise();
  job->Queue();  // the job deletes itself when it is done
  return promise;
}

Napi::Value Rejected(Napi::Env env, const Failure& failure) {
  Napi::Promise::Deferred deferred = Napi::Promise::Deferred::New(env);
  deferred.Reject(ToError(env, failure).Value());
  return deferred.Promise();
}

}  // namespace fairlead
