import functions_framework


@functions_framework.http
def hello(request):
    event = request.get_json()
    return {"hello": event.get("name", "world")}
